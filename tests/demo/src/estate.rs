//! Two sites, and the shop at home on one of them.

use crate::Result;
use std::path::Path;

pub const HOME: &str = "hq";
pub const AWAY: &str = "dr";

/// What a recovery point says once it lies as files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointCheck {
    /// Number of the newest record of the database.
    pub last: u64,
    /// Nothing had to be replayed.
    pub clean: bool,
}

pub trait Estate: Send {
    /// `real machines (QEMU 7.2, TCG)`, or why not.
    fn kind(&self) -> String;
    /// Text of `sites.plan` for these sites and this vault.
    fn sites_plan(&self, vault: &str) -> String;
    /// Starts a site's agent; its machines stay as they are.
    fn start(&mut self, site: &str) -> Result<()>;
    /// The disaster: agent and machines end at once, in the middle of whatever they do.
    fn kill(&mut self, site: &str) -> Result<()>;
    /// The newest record of the database as its machine answers it now.
    fn last_answered(&self, site: &str) -> Result<u64>;
    /// The newest whole record on the database's disk at a site where it does not run.
    fn last_on_disk(&self, site: &str) -> Result<u64>;
    /// Checks the files `db-root.raw`, `db-data.raw` and `app-root.raw`: file systems, sequence, checksums, causality.
    fn check_point(&self, folder: &Path) -> Result<PointCheck>;
}

/// `sites.plan` of the shop, with the addresses of this computer. The other files of `plans/shop` are used as they are.
pub(crate) fn sites_plan(
    provider: &str,
    home: &str,
    home_port: u16,
    away: &str,
    away_port: u16,
    vault: &str,
) -> String {
    format!(
        r#"edition 2026

site hq {{
  provider = {provider}("{home}:{home_port}")
  network data = 10.10.20.0/24
  network web  = 10.10.40.0/24
}}

site dr {{
  provider = {provider}("{away}:{away_port}")
  network data = 10.60.20.0/24
  network web  = 10.60.40.0/24
}}

route hq <-> dr {{
  vault = "{vault}"
  data <-> data test isolated
  web  <-> web  test isolated
}}
"#
    )
}
