//! Podium’s PID 1.
fn main() {}
