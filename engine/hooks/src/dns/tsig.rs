//! Signatures of DNS messages with a shared key: TSIG, RFC 8945.

use super::message::{Cursor, Header, TYPE_TSIG, write_name};
use hmac::{Hmac, KeyInit, Mac};
use muster_ports::{Failure, Result};
use sha2::{Sha256, Sha512};

/// Seconds that the clocks of both sides may differ.
const FUDGE_SECONDS: u16 = 300;
const CLASS_ANY: u16 = 255;

/// A shared key, as `nsupdate -y` takes it: `hmac-sha256:name:base64`, or without the algorithm.
pub(crate) struct Key {
    name: String,
    algorithm: Algorithm,
    secret: zeroize::Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "hmac-sha256",
            Self::Sha512 => "hmac-sha512",
        }
    }
}

impl Key {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        use base64::Engine as _;
        let wrong = |what: &str| {
            Failure::permanent(format!("the key for the name server {what}"))
                .help("put `hmac-sha256:name:base64` into the keyring, as `tsig-keygen` prints name and secret")
        };
        let parts: Vec<&str> = text.trim().split(':').collect();
        let (algorithm, name, secret) = match parts.as_slice() {
            [name, secret] => (Algorithm::Sha256, *name, *secret),
            ["hmac-sha256", name, secret] => (Algorithm::Sha256, *name, *secret),
            ["hmac-sha512", name, secret] => (Algorithm::Sha512, *name, *secret),
            [_, _, _] => return Err(wrong("has an algorithm other than hmac-sha256 and hmac-sha512")),
            _ => return Err(wrong("has another form")),
        };
        let secret = base64::engine::general_purpose::STANDARD.decode(secret).map_err(|_| wrong("is not base64"))?;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() || secret.is_empty() {
            return Err(wrong("has an empty part"));
        }
        Ok(Self { name, algorithm, secret: zeroize::Zeroizing::new(secret) })
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        // A key of any length is taken.
        match self.algorithm {
            Algorithm::Sha256 => digest::<Hmac<Sha256>>(&self.secret, parts),
            Algorithm::Sha512 => digest::<Hmac<Sha512>>(&self.secret, parts),
        }
    }

    /// What is signed beside the message.
    fn variables(&self, seconds: u64, fudge: u16, error: u16, other: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        write_name(&mut out, &self.name)?;
        out.extend(CLASS_ANY.to_be_bytes());
        out.extend(0u32.to_be_bytes());
        write_name(&mut out, self.algorithm.name())?;
        out.extend(&seconds.to_be_bytes()[2..]);
        out.extend(fudge.to_be_bytes());
        out.extend(error.to_be_bytes());
        out.extend(length_of(other));
        out.extend(other);
        Ok(out)
    }

    /// Appends the signature to a message and returns its MAC, which the reply is signed together with.
    pub(crate) fn sign(&self, message: &mut Vec<u8>, seconds: u64) -> Result<Vec<u8>> {
        let mac = self.mac(&[message, &self.variables(seconds, FUDGE_SECONDS, 0, &[])?]);
        let header = Header::read(message)?;
        write_name(message, &self.name)?;
        message.extend(TYPE_TSIG.to_be_bytes());
        message.extend(CLASS_ANY.to_be_bytes());
        message.extend(0u32.to_be_bytes());
        let mut data = Vec::new();
        write_name(&mut data, self.algorithm.name())?;
        data.extend(&seconds.to_be_bytes()[2..]);
        data.extend(FUDGE_SECONDS.to_be_bytes());
        data.extend(length_of(&mac));
        data.extend(&mac);
        data.extend(header.id.to_be_bytes());
        data.extend([0; 4]);
        message.extend(length_of(&data));
        message.extend(data);
        set_additional(message, header.additional + 1);
        Ok(mac)
    }

    /// Whether the reply was signed by who has the same key, for this request.
    pub(crate) fn verify(&self, reply: &[u8], request_mac: &[u8]) -> Result<()> {
        let forged = |what: &str| Failure::refused(format!("the name server's reply {what}"));
        let header = Header::read(reply)?;
        let Some(at) = header.last_record(reply)? else { return Err(forged("is not signed")) };
        let mut cursor = Cursor { bytes: reply, at };
        let name = cursor.name()?;
        if cursor.u16()? != TYPE_TSIG {
            return Err(forged("is not signed"));
        }
        cursor.take(6)?;
        cursor.u16()?;
        let algorithm = cursor.name()?;
        let seconds = cursor.take(6)?.iter().fold(0u64, |seconds, byte| seconds << 8 | u64::from(*byte));
        let fudge = cursor.u16()?;
        let length = cursor.u16()?;
        let mac = cursor.take(usize::from(length))?.to_vec();
        let original_id = cursor.u16()?;
        let error = cursor.u16()?;
        let other_length = cursor.u16()?;
        let other = cursor.take(usize::from(other_length))?;
        match error {
            0 => {}
            16 => return Err(forged("says that the signature is wrong (BADSIG): the secrets differ")),
            17 => return Err(forged(&format!("says that it does not know the key `{}` (BADKEY)", self.name))),
            18 => return Err(forged("says that the clocks differ by more than 5 minutes (BADTIME)")),
            other => return Err(forged(&format!("has TSIG error {other}"))),
        }
        if name != self.name || algorithm != self.algorithm.name() {
            return Err(forged("is signed with another key"));
        }
        let mut unsigned = reply.get(..at).unwrap_or_default().to_vec();
        set_additional(&mut unsigned, header.additional.saturating_sub(1));
        unsigned[..2].copy_from_slice(&original_id.to_be_bytes());
        let expected = self.mac(&[
            &length_of(request_mac),
            request_mac,
            &unsigned,
            &self.variables(seconds, fudge, error, other)?,
        ]);
        // Nothing to learn from the time it takes: the MAC is of one message and is not asked for twice.
        if expected == mac { Ok(()) } else { Err(forged("has a wrong signature")) }
    }
}

fn length_of(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

fn set_additional(message: &mut [u8], count: u16) {
    if let Some(field) = message.get_mut(10..12) {
        field.copy_from_slice(&count.to_be_bytes());
    }
}

fn digest<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Vec::new() };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::message::{Kind, write_question};
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn keys_are_read_as_nsupdate_reads_them() {
        assert!(Key::parse("muster:c2VjcmV0").is_ok());
        assert!(Key::parse("hmac-sha512:muster.:c2VjcmV0").is_ok());
        for wrong in ["", "muster", "hmac-md5:muster:c2VjcmV0", "muster:***", ":c2VjcmV0", "a:b:c:d"] {
            assert!(Key::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_known_again_and_a_changed_message_is_not() {
        let key = key("muster:c2VjcmV0");
        // A reply to a request without a MAC is signed as that request would be, but for the MAC's empty length.
        let mut message = write_question(7, "www.example.com", Kind::A).unwrap();
        let plain = message.clone();
        key.sign(&mut message, 1_700_000_000).unwrap();
        let mut signed_with_empty_request = message.clone();
        let mac = key.mac(&[&[0, 0], &plain, &key.variables(1_700_000_000, FUDGE_SECONDS, 0, &[]).unwrap()]);
        let at = message.len() - 6 - mac.len();
        signed_with_empty_request[at..at + mac.len()].copy_from_slice(&mac);
        assert_eq!(key.verify(&signed_with_empty_request, &[]), Ok(()));
        signed_with_empty_request[14] ^= 1;
        assert!(key.verify(&signed_with_empty_request, &[]).unwrap_err().message.contains("wrong signature"));
        assert!(key.verify(&plain, &[]).unwrap_err().message.contains("not signed"));
    }
}
