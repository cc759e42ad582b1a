//! Newtypes for every name that crosses from `dsl` to `engine`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Declares newtypes over text, cheap to clone: a sheet names each machine and step many times. Also used by `engine/ports` for its own identities.
#[macro_export]
macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);
        impl $name {
            pub fn new(text: impl AsRef<str>) -> Self { Self(text.as_ref().into()) }
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer).map(Self::from)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(&self.0) }
        }
        impl From<&str> for $name { fn from(text: &str) -> Self { Self(text.into()) } }
        impl From<String> for $name { fn from(text: String) -> Self { Self(text.into()) } }
        impl AsRef<str> for $name { fn as_ref(&self) -> &str { &self.0 } }
        impl std::borrow::Borrow<str> for $name { fn borrow(&self) -> &str { &self.0 } }
    )*};
}

text_id! {
    /// A site by the name it has in `.plan`.
    SiteName,
    /// A protected machine by the name it has in `.plan` and inventory.
    MachineName,
    /// A disk of a machine, stable for its life: `root`, `data`.
    DiskName,
    /// A network by the name it has in `.plan`.
    NetworkName,
    GroupName,
    PolicyName,
    PlanName,
    HookName,
    StageName,
    /// A compiled step, by path: `db.start/sql-01`, `land/sql-01`.
    StepId,
}

/// BLAKE3 of something, hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(pub String);

impl Hash {
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(blake3::hash(bytes.as_ref()).to_hex().to_string())
    }
    /// The first eight digits, as shown to people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
