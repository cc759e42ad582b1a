//! What the tests of the standard library share: the estate its modules are tried on, a reader of the modules, the
//! reference that the book prints of them, and a bench that runs their hooks against real servers.
#![allow(clippy::panic)] // a helper of tests

mod bench;
mod reference;
pub mod servers;
mod trial;

pub use bench::{Bench, Text};
pub use reference::{Entry, Module, modules, page};
pub use trial::{Folder, Trial, repository};
