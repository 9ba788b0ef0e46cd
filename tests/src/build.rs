//! Builds what the namespace tests run: PID 1 and the programs around it, static, as they are in an image.
//!
//! `PODIUM_INIT` names a PID 1 that is there already (CI tests the one of the image); everything else is built by
//! the cargo that runs the tests, once a test run, into a target folder of its own.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The variable that names a ready-made PID 1.
const INIT: &str = "PODIUM_INIT";
/// A static program needs the target named, or build scripts would be static too.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// PID 1.
    pub init: PathBuf,
    /// Stands in for services.
    pub fake: PathBuf,
    /// Makes the root and becomes PID 1.
    pub launch: PathBuf,
}

/// Builds them, or gives what an earlier call in this process has built.
///
/// # Errors
/// The compiler failed; its own words are on stderr.
pub fn programs() -> Result<&'static Programs> {
    static BUILT: OnceLock<std::result::Result<Programs, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<Programs> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = workspace.join("target/static");
    let ready_made = std::env::var_os(INIT).map(PathBuf::from);
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&workspace).env("RUSTFLAGS", "-C target-feature=+crt-static");
    // Each node gets a copy: without debug information it is a tenth of the size.
    command.env("CARGO_PROFILE_DEV_DEBUG", "0");
    command.args(["build", "--quiet", "--target", TARGET, "--target-dir"]).arg(&target);
    command.args(["--package", "podium-tests", "--bin", "fake", "--bin", "launch"]);
    if ready_made.is_none() {
        command.args(["--package", "podium-init", "--bin", "init"]);
    }
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("cargo build of the static programs: {status}");
    }
    let built = target.join(TARGET).join("debug");
    let init = ready_made.unwrap_or_else(|| built.join("init"));
    if !init.is_file() {
        bail!("{} is no file; {INIT} names the PID 1 to test", init.display());
    }
    Ok(Programs { init, fake: built.join("fake"), launch: built.join("launch") })
}
