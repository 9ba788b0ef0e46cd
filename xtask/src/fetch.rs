//! `fetch`: gets every component of the image into the cache, builds the kubelet, and keeps image.lock.

use crate::doctor;
use crate::image::PolicyArguments;
use anyhow::Result;
use clap::Args;
use podium_image::build::{self, Checkout};
use podium_image::lock::Mode;

/// Fetch the image's components into the cache and build the kubelet, so that the image can be built offline.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    policy: PolicyArguments,
    /// Move every component to the newest version of the suite and record it in image.lock
    #[arg(long, conflicts_with_all = ["locked", "offline"])]
    update: bool,
    /// Print the lock as JSON
    #[arg(long)]
    json: bool,
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    doctor::ensure()?;
    let mut policy = arguments.policy.policy();
    if arguments.update {
        policy.mode = Mode::Update;
    }
    let lock = build::fetch(&Checkout::at(&crate::top()), policy)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&lock)?);
    }
    eprintln!(
        "{} packages and {} sources are in the cache; `cargo xtask image --offline` works from here",
        lock.packages.len(),
        lock.sources.len()
    );
    Ok(())
}
