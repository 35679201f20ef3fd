//! The target `zstd-blocks` as a program that libFuzzer drives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::zstd_blocks::check(bytes));
