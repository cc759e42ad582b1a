//! Whether the bucket itself keeps what is written to it: S3's object lock.
//!
//! Muster's own holds are promises of Muster. A bucket's lock binds whoever has the credentials too, so it is worth
//! knowing; and where there is one, upkeep that deletes is refused by the store until the lock has run out.
//!
//! What is absent: setting a lock, and asking Azure or Google, whose clients offer no way to ask.

use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use reqwest::{Method, StatusCode};
use std::fmt;
use std::time::Duration;

/// Longest time the question may take; nothing depends on the answer.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);

/// What a bucket says about its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketLock {
    Off,
    /// Objects can be locked one by one; none is by itself.
    Possible,
    /// Whatever is written is kept.
    Keeps {
        /// `COMPLIANCE` (nobody can shorten it) or `GOVERNANCE` (some may).
        mode: String,
        /// `30 days`, `1 years`.
        period: String,
    },
}

impl fmt::Display for BucketLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Possible => f.write_str("possible, no default retention"),
            Self::Keeps { mode, period } => write!(f, "keeps everything for {period} ({})", mode.to_ascii_lowercase()),
        }
    }
}

/// `None` when there is no telling: the store does not answer, or not in these words.
pub(crate) async fn of(signer: &dyn Signer, plain_http: bool) -> Option<BucketLock> {
    let question = SignedUrlOptions::default().with_query([("object-lock", "")]);
    let url = signer.signed_url_opts(Method::GET, &Path::default(), QUESTION_LIMIT, &question).await.ok()?;
    let mut client = reqwest::Client::builder().timeout(QUESTION_LIMIT);
    if plain_http {
        client = client.tls_certs_only([]);
    }
    let answer = client.build().ok()?.get(url).send().await.ok()?;
    let status = answer.status();
    parse(status, &answer.text().await.ok()?)
}

fn parse(status: StatusCode, text: &str) -> Option<BucketLock> {
    let tagged = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside.trim().to_owned())
    };
    if status == StatusCode::NOT_FOUND && text.contains("ObjectLockConfigurationNotFound") {
        return Some(BucketLock::Off);
    }
    if !status.is_success() || tagged("ObjectLockEnabled")? != "Enabled" {
        return None;
    }
    let period = tagged("Days").map(|days| format!("{days} days"));
    let period = period.or_else(|| tagged("Years").map(|years| format!("{years} years")));
    Some(match (tagged("Mode"), period) {
        (Some(mode), Some(period)) => BucketLock::Keeps { mode, period },
        _ => BucketLock::Possible,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_understood() {
        let missing = "<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>";
        assert_eq!(parse(StatusCode::NOT_FOUND, missing), Some(BucketLock::Off));
        let bare = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
        assert_eq!(parse(StatusCode::OK, bare), Some(BucketLock::Possible));
        let rule = "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days>\
                    </DefaultRetention></Rule>";
        let lock = parse(StatusCode::OK, rule).unwrap();
        assert_eq!(lock.to_string(), "keeps everything for 30 days (compliance)");
        assert_eq!(parse(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"), None);
        assert_eq!(parse(StatusCode::NOT_IMPLEMENTED, ""), None);
    }
}
