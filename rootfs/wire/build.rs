//! The messages and services of `proto/` as Rust, by protox: no system protoc is needed.

use std::error::Error;

const FILES: [&str; 4] =
    ["common/common.proto", "machine/machine.proto", "cosi/state.proto", "cri/cri.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().bytes(".common.Data").compile_fds(descriptors)?;
    Ok(())
}
