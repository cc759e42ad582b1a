//! DNS messages, as far as a hook needs them: a question, an update, and reading what comes back. Bad bytes are errors.

use super::tsig::Key;
use muster_ports::{Failure, Result};
use std::net::IpAddr;

pub(super) const TYPE_TSIG: u16 = 250;
const TYPE_SOA: u16 = 6;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
/// Operation `update`, in its place in the flags.
const OPCODE_UPDATE: u16 = 5 << 11;
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
const HEADER_BYTES: usize = 12;

/// Types of records that hooks handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Cname,
    Ptr,
    Txt,
}

impl Kind {
    pub(crate) fn parse(word: &str) -> Result<Self> {
        Ok(match word.to_ascii_uppercase().as_str() {
            "A" => Self::A,
            "AAAA" => Self::Aaaa,
            "CNAME" => Self::Cname,
            "PTR" => Self::Ptr,
            "TXT" => Self::Txt,
            _ => {
                return Err(Failure::permanent(format!("records of type `{word}` are not known to hooks"))
                    .help("types are A, AAAA, CNAME, PTR and TXT"));
            }
        })
    }
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Cname => 5,
            Self::Ptr => 12,
            Self::Txt => 16,
            Self::Aaaa => 28,
        }
    }

    fn write(self, value: &str) -> Result<Vec<u8>> {
        let wrong = || Failure::permanent(format!("`{value}` cannot be the value of a record of type {self:?}"));
        let mut data = Vec::new();
        match (self, value.parse()) {
            (Self::A, Ok(IpAddr::V4(ip))) => data.extend(ip.octets()),
            (Self::Aaaa, Ok(IpAddr::V6(ip))) => data.extend(ip.octets()),
            (Self::Cname | Self::Ptr, _) => write_name(&mut data, value)?,
            (Self::Txt, _) => {
                for chunk in value.as_bytes().chunks(255) {
                    data.push(u8::try_from(chunk.len()).unwrap_or(u8::MAX));
                    data.extend(chunk);
                }
            }
            _ => return Err(wrong()),
        }
        Ok(data)
    }
}

/// What a server knows about a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) ttl: u32,
    /// In the order of the reply; none when there is no such record.
    pub(crate) values: Vec<String>,
}

/// Appends a name, uncompressed and in lower case.
pub(super) fn write_name(out: &mut Vec<u8>, name: &str) -> Result<()> {
    let wrong = || Failure::permanent(format!("`{name}` is not a domain name"));
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.len() + 2 > NAME_BYTES_MAX || bare.is_empty() {
        return Err(wrong());
    }
    for label in bare.split('.') {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.bytes().all(good) {
            return Err(wrong());
        }
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend(label.to_ascii_lowercase().bytes());
    }
    out.push(0);
    Ok(())
}

fn write_header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
}

pub(crate) fn write_question(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>> {
    let mut out = write_header(id, 0, [1, 0, 0, 0]);
    write_name(&mut out, name)?;
    out.extend(kind.number().to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    Ok(out)
}

/// One update that puts `values` in place of all records of that name and type: it happens whole, or not at all.
pub(crate) fn write_update(
    id: u16,
    zone: &str,
    name: &str,
    kind: Kind,
    ttl: u32,
    values: &[String],
) -> Result<Vec<u8>> {
    let (zone_bare, bare) = (zone.trim_end_matches('.').to_ascii_lowercase(), name.trim_end_matches('.'));
    let inside = bare.to_ascii_lowercase();
    if inside != zone_bare && !inside.ends_with(&format!(".{zone_bare}")) {
        return Err(Failure::permanent(format!("`{name}` is not in the zone `{zone}`")));
    }
    let count = u16::try_from(values.len() + 1)
        .map_err(|_| Failure::permanent(format!("{} values are too many for one name", values.len())))?;
    let mut out = write_header(id, OPCODE_UPDATE, [1, 0, count, 0]);
    write_name(&mut out, zone)?;
    out.extend(TYPE_SOA.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    let mut record = |class: u16, ttl: u32, data: &[u8]| -> Result<()> {
        write_name(&mut out, name)?;
        out.extend(kind.number().to_be_bytes());
        out.extend(class.to_be_bytes());
        out.extend(ttl.to_be_bytes());
        out.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(data);
        Ok(())
    };
    record(CLASS_ANY, 0, &[])?;
    for value in values {
        record(CLASS_IN, ttl, &kind.write(value)?)?;
    }
    Ok(out)
}

/// The fixed beginning of every message.
pub(super) struct Header {
    pub(super) id: u16,
    flags: u16,
    counts: [u16; 3],
    pub(super) additional: u16,
}

fn damaged() -> Failure {
    Failure::transient("the name server's reply is damaged")
}

/// Reads a message from front to back; names may point backwards.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or_else(damaged)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(damaged)?;
        self.at = end;
        Ok(taken)
    }
    pub(super) fn u16(&mut self) -> Result<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
    fn u32(&mut self) -> Result<u32> {
        self.take(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
    fn u8(&mut self) -> Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// In lower case, without the dot at the end.
    pub(super) fn name(&mut self) -> Result<String> {
        let mut labels: Vec<String> = Vec::new();
        let (mut at, mut end) = (self.at, None);
        let mut bytes_left = NAME_BYTES_MAX;
        loop {
            let mut here = Cursor { bytes: self.bytes, at };
            let length = here.u8()?;
            match length {
                0 => {
                    self.at = end.unwrap_or(here.at);
                    return Ok(labels.join("."));
                }
                1..=63 => {
                    let label = here.take(usize::from(length))?;
                    bytes_left = bytes_left.checked_sub(label.len() + 1).ok_or_else(damaged)?;
                    labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
                    at = here.at;
                }
                192.. => {
                    let target = usize::from(length & 63) << 8 | usize::from(here.u8()?);
                    end.get_or_insert(here.at);
                    // Only backwards, so that no chain of pointers is endless.
                    if target >= at {
                        return Err(damaged());
                    }
                    at = target;
                }
                _ => return Err(damaged()),
            }
        }
    }

    fn skip_question(&mut self) -> Result<()> {
        self.name()?;
        self.take(4).map(|_| ())
    }

    /// Name, type, time to live and where the data lies.
    fn record(&mut self) -> Result<(String, u16, u32, std::ops::Range<usize>)> {
        let name = self.name()?;
        let kind = self.u16()?;
        self.u16()?;
        let ttl = self.u32()?;
        let length = usize::from(self.u16()?);
        let begin = self.at;
        self.take(length)?;
        Ok((name, kind, ttl, begin..begin + length))
    }
}

impl Header {
    pub(super) fn read(message: &[u8]) -> Result<Self> {
        let mut cursor = Cursor { bytes: message, at: 0 };
        let (id, flags) = (cursor.u16()?, cursor.u16()?);
        let counts = [cursor.u16()?, cursor.u16()?, cursor.u16()?];
        Ok(Self { id, flags, counts, additional: cursor.u16()? })
    }

    fn code(&self) -> u16 {
        self.flags & 15
    }

    /// Where the last record of the message begins.
    pub(super) fn last_record(&self, message: &[u8]) -> Result<Option<usize>> {
        let mut cursor = Cursor { bytes: message, at: HEADER_BYTES };
        for _ in 0..self.counts[0] {
            cursor.skip_question()?;
        }
        let records = u32::from(self.counts[1]) + u32::from(self.counts[2]) + u32::from(self.additional);
        let mut last = None;
        for _ in 0..records {
            last = Some(cursor.at);
            cursor.record()?;
        }
        Ok(last)
    }
}

/// A reply to the question with this id; no such name is an answer too.
pub(crate) fn read_lookup(reply: &[u8], id: u16, name: &str, kind: Kind) -> Result<Lookup> {
    let header = Header::read(reply)?;
    if header.id != id {
        return Err(damaged());
    }
    match header.code() {
        0 => {}
        3 => return Ok(Lookup::default()),
        code => return Err(failure(code, name)),
    }
    let wanted = name.trim_end_matches('.').to_ascii_lowercase();
    let mut cursor = Cursor { bytes: reply, at: HEADER_BYTES };
    for _ in 0..header.counts[0] {
        cursor.skip_question()?;
    }
    let mut found = Lookup::default();
    for _ in 0..header.counts[1] {
        let (owner, number, ttl, data) = cursor.record()?;
        if owner == wanted && number == kind.number() {
            found.ttl = ttl;
            found.values.push(read_value(reply, kind, data)?);
        }
    }
    Ok(found)
}

fn read_value(reply: &[u8], kind: Kind, data: std::ops::Range<usize>) -> Result<String> {
    let bytes = reply.get(data.clone()).ok_or_else(damaged)?;
    Ok(match kind {
        Kind::A => IpAddr::from(<[u8; 4]>::try_from(bytes).map_err(|_| damaged())?).to_string(),
        Kind::Aaaa => IpAddr::from(<[u8; 16]>::try_from(bytes).map_err(|_| damaged())?).to_string(),
        Kind::Cname | Kind::Ptr => Cursor { bytes: reply, at: data.start }.name()?,
        Kind::Txt => {
            let mut cursor = Cursor { bytes, at: 0 };
            let mut text = Vec::new();
            while cursor.at < bytes.len() {
                let length = cursor.u8()?;
                text.extend_from_slice(cursor.take(usize::from(length))?);
            }
            String::from_utf8_lossy(&text).into_owned()
        }
    })
}

/// Whether the update with this id was made. With a key, the reply must be signed with it too.
pub(crate) fn read_update(reply: &[u8], id: u16, name: &str, signed: Option<(&Key, &[u8])>) -> Result<()> {
    let header = Header::read(reply)?;
    if header.id != id {
        return Err(damaged());
    }
    if let Some((key, mac)) = signed {
        match (key.verify(reply, mac), header.code()) {
            (Ok(()), _) => {}
            // A refusal may come without a signature; taking it for one changes nothing.
            (Err(_), code @ (1 | 2 | 4 | 5)) => return Err(failure(code, name)),
            (Err(forged), _) => return Err(forged),
        }
    }
    match header.code() {
        0 => Ok(()),
        code => Err(failure(code, name)),
    }
}

fn failure(code: u16, name: &str) -> Failure {
    let text = |what: &str| format!("the name server answered {what} for `{name}`");
    match code {
        1 => Failure::permanent(text("FORMERR")),
        2 => Failure::transient(text("SERVFAIL")),
        4 => Failure::permanent(text("NOTIMP")).help("it takes no dynamic updates"),
        5 => Failure::refused(text("REFUSED")).help("its update policy does not allow this name to this key"),
        9 => Failure::refused(text("NOTAUTH")).help("it is not the primary of the zone, or does not know the key"),
        10 => Failure::permanent(text("NOTZONE")),
        other => Failure::permanent(text(&format!("code {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(id: u16, code: u16, records: &[(&str, u16, &[u8])]) -> Vec<u8> {
        let count = u16::try_from(records.len()).unwrap();
        let mut out = write_header(id, 0x8400 | code, [1, count, 0, 0]);
        write_name(&mut out, "www.example.com").unwrap();
        out.extend([0, 1, 0, 1]);
        for (_, kind, data) in records {
            // The name as a pointer to the question.
            out.extend([0xc0, 12]);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 60]);
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(*data);
        }
        out
    }

    #[test]
    fn answers_are_read_with_their_pointers() {
        let bytes = reply(7, 0, &[("www", 1, &[10, 0, 0, 1]), ("www", 1, &[10, 0, 0, 2])]);
        let found = read_lookup(&bytes, 7, "WWW.example.com.", Kind::A).unwrap();
        assert_eq!(found, Lookup { ttl: 60, values: vec!["10.0.0.1".into(), "10.0.0.2".into()] });
        let bytes = reply(7, 0, &[("www", 5, &[0xc0, 16])]);
        assert_eq!(read_lookup(&bytes, 7, "www.example.com", Kind::Cname).unwrap().values, ["example.com"]);
        assert_eq!(read_lookup(&reply(7, 3, &[]), 7, "www.example.com", Kind::A), Ok(Lookup::default()));
        assert!(read_lookup(&reply(7, 5, &[]), 7, "www.example.com", Kind::A).is_err());
    }

    #[test]
    fn damaged_replies_are_errors() {
        let whole = reply(7, 0, &[("www", 1, &[10, 0, 0, 1])]);
        for end in 0..whole.len() {
            assert!(read_lookup(&whole[..end], 7, "www.example.com", Kind::A).is_err(), "cut at {end}");
        }
        assert!(read_lookup(&whole, 8, "www.example.com", Kind::A).is_err(), "another id");
        let mut looped = whole.clone();
        looped[33..35].copy_from_slice(&[0xc0, 33]);
        assert!(read_lookup(&looped, 7, "www.example.com", Kind::A).is_err(), "a name that leads to itself");
        for at in 0..whole.len() {
            for value in [0, 1, 63, 64, 192, 255] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = read_lookup(&changed, 7, "www.example.com", Kind::A);
                let _ = Header::read(&changed).and_then(|header| header.last_record(&changed));
            }
        }
    }

    #[test]
    fn an_update_replaces_the_whole_set() {
        let bytes = write_update(7, "example.com", "www.example.com", Kind::A, 60, &["10.0.0.1".into()]).unwrap();
        assert_eq!(bytes[..12], [0, 7, 0x28, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
        assert!(bytes.ends_with(&[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]));
        assert!(write_update(7, "example.com", "www.example.org", Kind::A, 60, &[]).is_err(), "another zone");
        assert!(write_update(7, "example.com", "notexample.com", Kind::A, 60, &[]).is_err(), "another zone");
        assert!(write_update(7, "example.com", "www.example.com", Kind::A, 60, &["fd00::1".into()]).is_err());
        assert!(write_update(7, "example.com", "www .example.com", Kind::A, 60, &[]).is_err());
    }
}
