//! Any bytes for `muster_corpus::parser`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_corpus::parser(bytes));
