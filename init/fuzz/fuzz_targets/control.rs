//! `cargo xtask fuzz control`; what it tries is in src/targets.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| podium_fuzz::targets::control(input));
