//! Any bytes for `muster_corpus::vault`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_corpus::vault(bytes));
