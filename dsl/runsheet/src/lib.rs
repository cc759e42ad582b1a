//! The compiled form: the contract between `dsl` and `engine`.
//!
//! A [`Runsheet`] is a plan compiled for one [`Operation`] against one [`Inventory`]. It is complete: the engine needs
//! no text to carry it out, and the file that was reviewed is the file that runs.

pub mod assumption;
pub mod beyond;
pub mod estate;
pub mod inventory;
pub mod names;
pub mod operation;
pub mod sealed;
pub mod sheet;
pub mod units;
pub mod value;
pub mod view;
pub mod week;
pub mod window;

pub use assumption::{Assumption, Broken};
pub use beyond::{HookUse, PolicyNeed, RunNeed};
pub use estate::*;
pub use inventory::*;
pub use names::*;
pub use operation::*;
pub use sealed::{seal, unseal};
pub use sheet::*;
pub use units::{Duration, Rate, Size};
pub use value::Value;
pub use window::WindowSheet;
