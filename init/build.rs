//! Leaves the tables for unwinding out of the program as it lands in the image, a tenth of it: see `no-unwind.ld`.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=no-unwind.ld");
    // Other profiles unwind: theirs are the unit tests.
    if env::var("OPT_LEVEL").is_ok_and(|level| level == "z") {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bin=init=-Wl,-T,{folder}/no-unwind.ld");
    }
}
