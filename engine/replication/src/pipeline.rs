//! The pipeline that moves blocks between a disk and the vault.
