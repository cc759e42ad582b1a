//! A signature at the end of the file it signs: one file, nothing to lose on the way to the auditor.
//!
//! ```text
//!   HTML, Markdown:  body | \n<!-- muster signature v1 ... -->\n
//!   JSON:            body without its last brace | ,\n  "signature": { ... }\n}\n
//! ```
//!
//! Signed are the words of the block and every byte before it; the block itself has one spelling only. So every byte of the
//! file is covered, and a report cannot be taken for one of another run, nor a bundle for a report.

use crate::key::{PublicKey, SIGNATURE_BYTES, Signer, from_hex, to_hex};
use muster_runsheet::Hash;

/// A signed file that is larger is not read, in bytes: a run of 100,000 steps makes 60 MiB.
pub const FILE_BYTES_MAX: usize = 256 << 20;

const DOMAIN: &str = "muster signature v1";
const COMMENT_OPENS: &str = "\n<!-- muster signature v1\n";
const COMMENT_CLOSES: &str = "-->\n";
const MEMBER_OPENS: &str = ",\n  \"signature\": {\n";
const MEMBER_CLOSES: &str = "\n  }\n}\n";
const BODY_CLOSES: &str = "\n}";
/// In this order, always all of them.
const NAMES: [&str; 6] = ["kind", "vault", "subject", "records", "head", "key"];

/// How a signed text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Html,
    Markdown,
    Json,
}

/// What the signature speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `report`, `bundle`.
    pub kind: String,
    /// Id of the vault.
    pub vault: String,
    /// The run of a report.
    pub subject: String,
    /// Records of its journal at that time.
    pub records: u64,
    /// The journal's newest hash then.
    pub head: Hash,
}

/// A file whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    pub subject: Subject,
    pub form: Form,
    /// Who signed. Whether that key is to be trusted is for the caller to know.
    pub key: PublicKey,
    /// Everything before the signature; for JSON, without the last brace.
    pub body: &'a str,
}

/// Why a file is not what was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it has no signature at its end")]
    NoSignature,
    #[error("its signature was changed: {0}")]
    Block(&'static str),
    #[error("it was changed after it was signed, or its signature was: the two do not belong together")]
    Changed,
    #[error("it is signed with key {found}, not with {expected}")]
    OtherKey { found: PublicKey, expected: PublicKey },
    #[error("it has {found} bytes, more than {FILE_BYTES_MAX}: no muster wrote it")]
    TooLarge { found: usize },
    #[error("`{0}` cannot stand in a signature")]
    BadWord(String),
}

/// A word of the block: nothing that could end it, in either form.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'~'))
        && !text.contains("--")
}

fn words(subject: &Subject, key: &PublicKey) -> [String; 6] {
    let Subject { kind, vault, subject, records, head } = subject;
    [kind.clone(), vault.clone(), subject.clone(), records.to_string(), head.0.clone(), key.to_string()]
}

fn message(words: &[String; 6], body: &str) -> Vec<u8> {
    let mut message = format!("{DOMAIN}\n");
    for (name, word) in NAMES.iter().zip(words) {
        message.push_str(&format!("{name}: {word}\n"));
    }
    message.push('\0');
    message.push_str(body);
    message.into_bytes()
}

fn block(form: Form, words: &[String; 6], signature: &str) -> String {
    let named = NAMES.iter().zip(words.iter().map(String::as_str)).chain([(&"ed25519", signature)]);
    match form {
        Form::Html | Form::Markdown => {
            let lines: String = named.map(|(name, word)| format!("{name}: {word}\n")).collect();
            format!("{COMMENT_OPENS}{lines}{COMMENT_CLOSES}")
        }
        Form::Json => {
            let lines: Vec<String> = named.map(|(name, word)| format!("    \"{name}\": \"{word}\"")).collect();
            format!("{MEMBER_OPENS}{}{MEMBER_CLOSES}", lines.join(",\n"))
        }
    }
}

/// Signs a text. A JSON body is one object as `serde_json` prints it, with at least one member.
pub fn seal(form: Form, body: &str, subject: &Subject, signer: &Signer) -> Result<String, SealError> {
    let words = words(subject, &signer.public());
    if let Some(bad) = words.iter().find(|word| !is_word(word)) {
        return Err(SealError::BadWord(bad.clone()));
    }
    let body = match form {
        Form::Json => {
            body.trim_end().strip_suffix(BODY_CLOSES).ok_or(SealError::BadWord("an empty body".to_owned()))?
        }
        Form::Html | Form::Markdown => body,
    };
    let signature = to_hex(&signer.sign(&message(&words, body)));
    Ok(format!("{body}{}", block(form, &words, &signature)))
}

/// Checks the signature; with `key`, that this key made it. Says which way a file was changed, as far as can be told.
pub fn open<'a>(text: &'a str, key: Option<&PublicKey>) -> Result<Opened<'a>, SealError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(SealError::TooLarge { found: text.len() });
    }
    let (form, at) = place(text).ok_or(SealError::NoSignature)?;
    let (body, tail) = text.split_at(at);
    let (words, signature) = read(form, tail)?;
    let found: PublicKey = words[5].parse().map_err(|_| SealError::Block("its key does not read"))?;
    if let Some(expected) = key.filter(|key| **key != found) {
        return Err(SealError::OtherKey { found, expected: *expected });
    }
    if !found.accepts(&message(&words, body), &signature) {
        return Err(SealError::Changed);
    }
    let [kind, vault, subject, records, head, _] = words;
    let records = records.parse().map_err(|_| SealError::Block("its number of records does not read"))?;
    Ok(Opened { subject: Subject { kind, vault, subject, records, head: Hash(head) }, form, key: found, body })
}

/// Where the block begins. A page of HTML begins with its doctype.
fn place(text: &str) -> Option<(Form, usize)> {
    let comment = text.rfind(COMMENT_OPENS);
    let member = text.rfind(MEMBER_OPENS);
    match (comment, member) {
        (Some(at), member) if member.is_none_or(|member| member < at) => {
            Some((if text.starts_with("<!doctype html>") { Form::Html } else { Form::Markdown }, at))
        }
        (_, Some(at)) => Some((Form::Json, at)),
        _ => None,
    }
}

fn read(form: Form, tail: &str) -> Result<([String; 6], Vec<u8>), SealError> {
    let word = |name: &str| {
        let start = match form {
            Form::Json => format!("    \"{name}\": \""),
            Form::Html | Form::Markdown => format!("{name}: "),
        };
        tail.lines()
            .find_map(|line| line.strip_prefix(&start))
            .map(|rest| rest.trim_end_matches(',').trim_end_matches('"').to_owned())
            .filter(|word| is_word(word))
            .ok_or(SealError::Block("a line of it is missing or does not read"))
    };
    let [kind, vault, subject, records, head, key] = NAMES;
    let words = [word(kind)?, word(vault)?, word(subject)?, word(records)?, word(head)?, word(key)?];
    let hex = word("ed25519")?;
    let signature = from_hex(&hex).filter(|bytes| bytes.len() == SIGNATURE_BYTES);
    let signature = signature.ok_or(SealError::Block("its digits do not read"))?;
    if block(form, &words, &hex) != tail {
        return Err(SealError::Block("it is not spelt as muster spells it"));
    }
    Ok((words, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8) -> Signer {
        Signer::from_seed(&[seed; 32]).unwrap_or_else(|| unreachable!("32 bytes"))
    }
    fn subject() -> Subject {
        Subject {
            kind: "report".into(),
            vault: "0a1b".into(),
            subject: "019e-run".into(),
            records: 41,
            head: Hash::of("the newest record"),
        }
    }
    const BODIES: [(Form, &str); 3] = [
        (Form::Html, "<!doctype html>\n<p>all is well</p>\n"),
        (Form::Markdown, "# all is well\n"),
        (Form::Json, "{\n  \"all\": \"well, and \\\"so\\\" on\"\n}"),
    ];

    #[test]
    fn what_was_signed_opens_with_the_key_and_says_of_what_it_speaks() {
        for (form, body) in BODIES {
            let text = seal(form, body, &subject(), &signer(7)).unwrap_or_else(|error| panic!("{error}"));
            let opened = open(&text, Some(&signer(7).public())).unwrap_or_else(|error| panic!("{form:?}: {error}"));
            assert_eq!((opened.subject, opened.form), (subject(), form));
            assert!(body.starts_with(opened.body));
            let other = signer(8).public();
            assert_eq!(
                open(&text, Some(&other)),
                Err(SealError::OtherKey { found: signer(7).public(), expected: other })
            );
            if form == Form::Json {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                assert_eq!(value["signature"]["subject"], "019e-run", "{text}");
            }
        }
    }

    #[test]
    fn every_single_changed_byte_is_refused() {
        for (form, body) in BODIES {
            let text = seal(form, body, &subject(), &signer(7)).unwrap_or_else(|error| panic!("{error}"));
            for at in 0..text.len() {
                for flip in [0x01, 0x20] {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] ^= flip;
                    let Ok(changed) = String::from_utf8(bytes) else { continue };
                    let opened = open(&changed, Some(&signer(7).public()));
                    assert!(opened.is_err(), "{form:?}, byte {at}: {changed}");
                }
            }
            assert!(open(&text[..text.len() - 1], None).is_err());
            assert!(open(&format!("{text}\n"), None).is_err());
        }
    }

    #[test]
    fn a_body_that_holds_a_block_of_its_own_and_a_word_that_would_end_one_do_not_pass() {
        let inner = seal(Form::Markdown, "# fine\n", &subject(), &signer(7)).unwrap_or_else(|error| panic!("{error}"));
        let outer = seal(Form::Markdown, &format!("{inner}# not fine\n"), &subject(), &signer(8));
        let outer = outer.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            open(&outer, Some(&signer(7).public())).map(|opened| opened.key),
            Err(SealError::OtherKey { found: signer(8).public(), expected: signer(7).public() })
        );
        let bad = Subject { subject: "a --> b".into(), ..subject() };
        assert_eq!(seal(Form::Html, "x", &bad, &signer(7)), Err(SealError::BadWord("a --> b".into())));
        assert_eq!(open("# no signature\n", None), Err(SealError::NoSignature));
    }
}
