//! What a run leaves for people: its report, the signature below it, and the file for the night in which nothing else is
//! left.
//!
//! ```text
//!   sheet + records --> tell --> Report (data) --> html | markdown | json --> seal --> one file
//!   plans + catalogue ---------> Bundle (data) ------------------> json --> seal --> one file
//!   one file + public key --> open --> the text, and which run and journal it speaks of
//! ```
//!
//! It reads no vault and no file: who calls it brings the records and the key. It decides nothing about a run, and says
//! nothing that the records do not say: what was not recorded is "not shown".
//!
//! Architecture invariant: the same records give the same bytes. No clock, no chance.

pub mod bundle;
mod html;
mod key;
mod markdown;
pub mod measure;
mod picture;
pub mod report;
pub mod seal;
mod tell;
mod words;

pub use bundle::{BUNDLE_FORMAT, Bundle, BundleError, BundledFile, BundledVault};
pub use key::{PublicKey, SIGNING_PURPOSE, Signer};
pub use report::{REPORT_FORMAT, Report};
pub use seal::{Form, Opened, SealError, Subject};
pub use tell::{Told, report};
pub use words::{clock, moment, span};

impl Report {
    /// The report as a page, as text or as data; not signed yet.
    pub fn render(&self, form: Form) -> String {
        match form {
            Form::Html => html::page(self),
            Form::Markdown => markdown::text(self),
            // A report is plain data: nothing in it can fail to be written.
            Form::Json => serde_json::to_string_pretty(self).unwrap_or_default(),
        }
    }
}
