//! Any bytes for `muster_corpus::formatter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_corpus::formatter(bytes));
