//! A whole site without a hypervisor: machines, networks, bubbles, guests and change tracking, driven by the same
//! [`Provider`](muster_ports::Provider) trait as real ones.
//!
//! It is not a mock: every effect changes a small world that can be asked afterwards, disks hold real bytes, guests are
//! tiny databases that write records with sequence numbers and checksums, cuts are copy-before-write snapshots, and
//! changes are tracked in bitmaps that are lost when they would be lost in life.
//!
//! ```text
//!   SimulatedProvider --- switchboard (faults, time per call, effect log)
//!        |
//!        +-- machines ---- guest (a program read from the boot disk) --.
//!        |                                                             v
//!        +-- disks ------- medium (memory | raw file) + change map + snapshot of an open cut
//!        `-- networks, bubbles, fences
//! ```
//!
//! A machine is what its disks say: the program lies in a boot record on the first disk, so that a machine landed at
//! another site from replica data runs there what it ran at home, and a wrong byte shows.
//!
//! Architecture invariant: disks are read and written synchronously, in pieces of at most a few MiB; nothing here waits
//! except on [`Clock`](muster_ports::Clock) and on the I/O hold of a machine.

mod bitmap;
mod clock;
mod cut;
mod disk;
mod estate;
mod faults;
mod files;
mod folder;
mod guest;
pub mod image;
mod medium;
mod network;
mod provider;
mod random;
mod site;
mod witness;

pub use clock::VirtualClock;
pub use estate::{APP_PORT, DATABASE_PORT, EstateSpec, MachineSpec, WEB_PORT, create_estate};
pub use faults::{CallClass, Effect, Fault, FaultPlan, FaultRates, Timing};
pub use image::{Program, ProgramKind, Verdict, check_causality, check_disk, check_file};
pub use provider::SimulatedProvider;
pub use random::SeededRandom;
pub use witness::{PowerWitness, machines_on_twice};
