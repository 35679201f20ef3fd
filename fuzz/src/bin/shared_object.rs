//! The target `shared-object` as a program that libFuzzer drives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::shared_object::check(bytes));
