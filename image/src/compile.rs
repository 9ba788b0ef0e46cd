//! Compiles our own programs that land in the image: PID 1, the API helper, the sandbox's process, the demo.
//!
//! All are static (glibc, `crt-static`, explicit target) and carry no path of this machine. Cargo itself decides what
//! is out of date; its target folder is apart from the one that runs this code.

use crate::build::Checkout;
use crate::run;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiled programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// PID 1.
    pub init: PathBuf,
    /// The node's API helper.
    pub apid: PathBuf,
    /// The pod sandbox's process.
    pub pause: PathBuf,
    /// The demo.
    pub hello: PathBuf,
}

/// The only target that is supported yet.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The workspace's packages that hold them.
pub const PACKAGES: [&str; 4] = ["podium-init", "podium-apid", "podium-pause", "podium-hello"];

/// Compiles the programs of the image.
pub fn programs(checkout: &Checkout) -> Result<Programs> {
    let made = build_all(checkout)?;
    Ok(Programs {
        init: made.join("init"),
        apid: made.join("apid"),
        pause: made.join("pause"),
        hello: made.join("hello"),
    })
}

/// Compiles one program of the workspace like those of the image; its path. One of these comes with the others, for
/// what they stand on has the features that all of them need together: it is the file that lands in the image.
pub fn program(checkout: &Checkout, package: &str, binary: &str) -> Result<PathBuf> {
    let made = if PACKAGES.contains(&package) {
        build_all(checkout)?
    } else {
        build(checkout, &["-p", package, "--bin", binary])?
    };
    Ok(made.join(binary))
}

fn build_all(checkout: &Checkout) -> Result<PathBuf> {
    let packages = PACKAGES.iter().flat_map(|package| ["-p", package]);
    build(checkout, &packages.chain(["--bins"]).collect::<Vec<_>>())
}

fn build(checkout: &Checkout, what: &[&str]) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = checkout.root.join("target/image-build");
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--profile", "image", "--target", TARGET]).args(what);
    command.current_dir(&checkout.root).env("CARGO_TARGET_DIR", &target);
    // What the outer cargo or the person set for other builds must not reach the image.
    for name in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_INCREMENTAL"] {
        command.env_remove(name);
    }
    run::without_callers_package(&mut command);
    command.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&checkout.root)?.join("\u{1f}"));
    run::loud(&mut command).context("our own programs do not compile")?;
    Ok(target.join(TARGET).join("image"))
}

fn rust_flags(workspace: &Path) -> Result<Vec<String>> {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cargo_home =
        home("CARGO_HOME").or_else(|| Some(home("HOME")?.join(".cargo"))).context("HOME is not set")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    Ok(vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        // A static PIE relocates itself at each start; packed, what it needs for that takes 1 KiB instead of 130.
        "-Clink-arg=-Wl,-z,pack-relative-relocs".to_owned(),
        remap(&std::path::absolute(workspace)?, "/podium"),
        remap(&cargo_home, "/cargo"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_this_machine_is_left_in_the_programs() {
        let flags = rust_flags(Path::new("/home/me/podium")).unwrap();
        assert_eq!(flags[0], "-Ctarget-feature=+crt-static");
        assert!(flags.contains(&"--remap-path-prefix=/home/me/podium=/podium".to_owned()));
        assert!(flags.iter().any(|flag| flag.ends_with("=/cargo")));
    }
}
