//! `bench`: the numbers of the README, measured on the machine it runs on.
//!
//! Each measurement is a file of its own name; this one only says what there is.

mod api;
mod boot;
mod manifests;
mod peers;
mod reaction;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measure boots, the rendering of manifests, how quickly a running node acts on a changed config, its API, or PID 1
/// beside other inits.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Api(api::Arguments),
    Boot(boot::Arguments),
    Manifests(manifests::Arguments),
    Peers(peers::Arguments),
    Reaction(reaction::Arguments),
}

/// Runs the measurement.
///
/// # Errors
/// When it failed: a number from half a measurement would be none.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Api(arguments) => api::run(arguments),
        What::Boot(arguments) => boot::run(arguments),
        What::Manifests(arguments) => manifests::run(arguments),
        What::Peers(arguments) => peers::run(arguments),
        What::Reaction(arguments) => reaction::run(arguments),
    }
}
