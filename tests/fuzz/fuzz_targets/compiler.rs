//! Any bytes for `muster_corpus::compiler`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| muster_corpus::compiler(bytes));
