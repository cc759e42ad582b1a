//! What the tests of the standard library share: the estate its modules are tried on, a reader of the modules, and the
//! reference that the book prints of them.

mod reference;
mod trial;

pub use reference::{Entry, Module, modules, page};
pub use trial::{Folder, Trial, repository};
