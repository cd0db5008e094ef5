#![no_main]

libfuzzer_sys::fuzz_target!(|data: &str| runql::fuzzing::header(data));
