//! The target `token-reply` as a program that libFuzzer drives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::token_reply::check(bytes));
