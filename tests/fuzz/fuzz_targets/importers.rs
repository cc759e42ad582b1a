//! Any bytes for `muster_corpus::importers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_corpus::importers(bytes));
