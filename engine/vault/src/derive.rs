//! Keys for other purposes than segments, from the vault's data key: whoever opens the vault has them, nobody else.

use crate::cipher::derive;
use crate::vault::Vault;
use zeroize::Zeroizing;

const DERIVED_KEY_INFO: &[u8] = b"muster derived key v1";

impl Vault {
    /// 32 bytes for one purpose, the same with every key of this vault and at all times. Another purpose and another vault
    /// give bytes that have nothing to do with them.
    pub fn derived_key(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        derive(&*self.data_key().0, &self.id().0, &[DERIVED_KEY_INFO, &[0], purpose.as_bytes()])
    }
}
