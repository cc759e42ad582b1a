//! Any bytes for `muster_corpus::runsheet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_corpus::runsheet(bytes));
