//! What the fuzz targets try. The bodies are in one file, which `init/tests/fuzz.rs` includes as well: the same
//! assertions hold in the bounded run of `cargo test` and in the long one of `cargo xtask fuzz`.

pub mod targets;
