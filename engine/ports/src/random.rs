//! Randomness as a port: keys, ids and jitter come from here.

use crate::clock::Timestamp;

pub trait Random: Send + Sync + std::fmt::Debug {
    fn fill(&self, bytes: &mut [u8]);

    fn next_u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
    /// An id that sorts by time and is unique: 9 hex digits of time (16 ms steps), 7 of chance.
    fn sortable_id(&self, now: Timestamp) -> String {
        format!("{:09x}{:07x}", (now.0 >> 4) & 0xf_ffff_ffff, self.next_u64() & 0xfff_ffff)
    }
}

/// The operating system's generator. The only place of the project that may ask it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[allow(clippy::disallowed_methods, clippy::expect_used)]
    fn fill(&self, bytes: &mut [u8]) {
        // Invariant: without the system's generator no key may be made; there is nothing to go on with.
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}
