//! Quantities with their unit as a type. In JSON they are text in the language's own spelling: `"8m"`, `"40GiB"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A span of time in whole milliseconds. Spelled `90s`, `5m`, `1h30m`, `7d`; `m` is only minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub u64);

/// A number of bytes. Spelled `40GiB`, `500GB`, `12B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Bits a second. Spelled `400Mbit/s`, `50MB/s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(pub u64);

/// Milliseconds of each unit of time, largest first.
pub const DURATION_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Bytes of each unit of size.
pub const SIZE_UNITS: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("PB", 1_000_000_000_000_000),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];
/// Bits a second of each unit of rate.
pub const RATE_UNITS: [(&str, u64); 10] = [
    ("Gbit/s", 1_000_000_000),
    ("Mbit/s", 1_000_000),
    ("kbit/s", 1_000),
    ("bit/s", 1),
    ("GiB/s", 8 << 30),
    ("MiB/s", 8 << 20),
    ("KiB/s", 8 << 10),
    ("GB/s", 8_000_000_000),
    ("MB/s", 8_000_000),
    ("kB/s", 8_000),
];

impl Duration {
    pub const ZERO: Self = Self(0);
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }
    pub const fn from_mins(minutes: u64) -> Self {
        Self(minutes * 60_000)
    }
    pub const fn as_millis(self) -> u64 {
        self.0
    }
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Rate {
    pub const fn bytes_per_second(self) -> u64 {
        self.0 / 8
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let mut rest = self.0;
        let mut text = String::new();
        // Weeks are read but never printed: `14d` is what people say.
        for (unit, millis) in DURATION_UNITS.into_iter().skip(1) {
            if rest >= millis {
                text.push_str(&format!("{}{unit}", rest / millis));
                rest %= millis;
            }
        }
        f.pad(&text)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in SIZE_UNITS {
            if self.0 >= bytes && self.0.is_multiple_of(bytes) {
                return f.pad(&format!("{}{unit}", self.0 / bytes));
            }
        }
        f.pad("0B")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bits) in RATE_UNITS {
            if self.0 >= bits && self.0.is_multiple_of(bits) {
                return f.pad(&format!("{}{unit}", self.0 / bits));
            }
        }
        f.pad("0bit/s")
    }
}

/// The text is not a quantity of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a {1}")]
pub struct ParseQuantityError(pub String, pub &'static str);

fn parse_parts(text: &str, units: &[(&str, u64)], kind: &'static str) -> Result<u64, ParseQuantityError> {
    let error = || ParseQuantityError(text.to_owned(), kind);
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let number: u64 = rest[..digits].parse().map_err(|_| error())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = units.iter().find(|(unit, _)| *unit == &rest[..end]).ok_or_else(error)?.1;
        total = number.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or_else(error)?;
        rest = &rest[end..];
    }
    if text.is_empty() { Err(error()) } else { Ok(total) }
}

macro_rules! quantity_as_text {
    ($($name:ident $units:ident $kind:literal),*) => {$(
        impl FromStr for $name {
            type Err = ParseQuantityError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_parts(text, &$units, $kind).map($name)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
quantity_as_text!(Duration DURATION_UNITS "duration", Size SIZE_UNITS "size", Rate RATE_UNITS "rate");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_back() {
        for text in ["90s", "1m30s", "1h30m", "7d", "15ms", "0s"] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.to_string().parse::<Duration>().unwrap(), duration, "{text}");
        }
        assert_eq!("90s".parse::<Duration>().unwrap().to_string(), "1m30s");
        assert_eq!("40GiB".parse::<Size>().unwrap().to_string(), "40GiB");
        assert_eq!("500GB".parse::<Size>().unwrap().to_string(), "500GB");
        assert_eq!("50MB/s".parse::<Rate>().unwrap(), "400Mbit/s".parse::<Rate>().unwrap());
        for wrong in ["", "5", "m", "5x", "99999999999999999999s"] {
            assert!(wrong.parse::<Duration>().is_err(), "{wrong}");
        }
    }
}
