//! Any bytes for `muster_corpus::nbd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_corpus::nbd(bytes));
