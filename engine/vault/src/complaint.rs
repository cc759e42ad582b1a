//! What a store means by its answer. Providers say the same thing in different words, and their clients keep the words
//! only as text.

use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error;

/// What a person has to put right, or wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    NoBucket,
    /// There are none to be had: no setting, and no machine identity either.
    NoCredentials,
    /// In the store's words.
    Rejected(String),
    ClockSkew,
    /// The bucket is of another region; in the store's words.
    WrongRegion(String),
    /// What was asked for is not implemented there; in the store's words.
    Unsupported(String),
    /// A hold or a retention of the store's own keeps the object; in the store's words.
    Kept(String),
    /// Nobody answers at its address.
    Unreachable,
}

/// Codes of S3 and Google (XML), and of Azure.
const NO_BUCKET: [&str; 4] = ["NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "AccountNotFound"];
const CLOCK: [&str; 3] = ["RequestTimeTooSkewed", "RequestExpired", "AuthenticationTimeTooSkewed"];
const REGION: [&str; 3] = ["AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"];
const KEPT: [&str; 4] =
    ["BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold", "ObjectLocked", "RetentionPolicyNotMet"];
/// Where machines of a cloud ask for their identity. Elsewhere nobody answers there.
const IDENTITY_SERVICES: [&str; 4] =
    ["169.254.169.254", "169.254.170.2", "metadata.google.internal", "metadata/identity/oauth2"];

pub(crate) fn of(error: &object_store::Error) -> Option<Complaint> {
    // A local folder complains in the words of the operating system.
    let text = error.to_string();
    if IDENTITY_SERVICES.iter().any(|service| text.contains(service)) {
        return Some(Complaint::NoCredentials);
    }
    let code = tagged(&text, "Code").unwrap_or_default();
    if NO_BUCKET.contains(&code) || text.contains("The specified bucket does not exist") {
        return Some(Complaint::NoBucket);
    }
    let skewed = "Make sure the value of Authorization header is formed correctly including the signature";
    if CLOCK.contains(&code) || (text.contains(skewed) && text.contains("request date")) {
        return Some(Complaint::ClockSkew);
    }
    if REGION.contains(&code) || text.contains("incorrectly configured region") {
        return Some(Complaint::WrongRegion(words(&text)));
    }
    if KEPT.contains(&code) {
        return Some(Complaint::Kept(words(&text)));
    }
    let denied =
        matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. });
    if denied && status(error).is_some() {
        return Some(Complaint::Rejected(words(&text)));
    }
    if status(error) == Some(501) || matches!(error, object_store::Error::NotImplemented { .. }) {
        return Some(Complaint::Unsupported(words(&text)));
    }
    is_unreachable(error).then_some(Complaint::Unreachable)
}

/// Of the answer, if there was one.
pub(crate) fn status(error: &object_store::Error) -> Option<u16> {
    let text = error.to_string();
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn is_unreachable(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(http) = current.downcast_ref::<HttpError>() {
            return http.kind() == HttpErrorKind::Connect;
        }
        next = current.source();
    }
    false
}

/// What an answer in XML says, or the end of the message without one.
fn words(text: &str) -> String {
    /// A store's message that is longer says nothing more to a person.
    const WORDS_MAX: usize = 300;
    let said = match (tagged(text, "Code"), tagged(text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {}", message.lines().next().unwrap_or_default()),
        (Some(code), None) => code.to_owned(),
        _ => text
            .rsplit_once("non-2xx status code: ")
            .map_or(text, |(_, rest)| rest)
            .trim_end_matches([':', ' '])
            .to_owned(),
    };
    said.chars().take(WORDS_MAX).collect()
}

fn tagged<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str, message: &str) -> String {
        format!(
            "Error performing PUT http://127.0.0.1:1/b/o in 1ms - Server returned non-2xx status code: {status} X: \
             <?xml?><Error><Code>{code}</Code><Message>{message}\nmore</Message></Error>"
        )
    }

    fn generic(text: String) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn answers_are_understood() {
        let missing =
            |code| object_store::Error::NotFound { path: "o".into(), source: answered(404, code, "gone").into() };
        let denied =
            |code| object_store::Error::PermissionDenied { path: "o".into(), source: answered(403, code, "no").into() };
        assert_eq!(of(&missing("NoSuchBucket")), Some(Complaint::NoBucket));
        assert_eq!(of(&missing("ContainerNotFound")), Some(Complaint::NoBucket));
        assert_eq!(of(&missing("NoSuchKey")), None);
        assert_eq!(of(&denied("RequestTimeTooSkewed")), Some(Complaint::ClockSkew));
        assert_eq!(of(&denied("SignatureDoesNotMatch")), Some(Complaint::Rejected("SignatureDoesNotMatch: no".into())));
        let region = generic(answered(400, "AuthorizationHeaderMalformed", "expecting 'eu-1'"));
        assert_eq!(of(&region), Some(Complaint::WrongRegion("AuthorizationHeaderMalformed: expecting 'eu-1'".into())));
        let unsupported = generic(answered(501, "NotImplemented", "If-None-Match"));
        assert_eq!(of(&unsupported), Some(Complaint::Unsupported("NotImplemented: If-None-Match".into())));
        let identity = generic("Error performing PUT http://169.254.169.254/latest/api/token in 1s".into());
        assert_eq!(of(&identity), Some(Complaint::NoCredentials));
        assert_eq!(of(&generic(answered(503, "SlowDown", "later"))), None);
        assert_eq!(status(&generic(answered(503, "SlowDown", "later"))), Some(503));
        let folder = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(of(&object_store::Error::PermissionDenied { path: "o".into(), source: Box::new(folder) }), None);
    }
}
