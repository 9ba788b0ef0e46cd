//! podiumctl: the operator's client of Podium nodes, with talosctl's words.
//!
//! This file turns words into one command and its outcome into an exit code: 0 done, 1 failed, 2 not understood.
//! Commands are in `command/`, connections in `client/`, what is shown is decided in the library. Data goes to
//! standard output and nothing else does.

mod cli;
mod client;
mod command;
mod dashboard;
mod fault;
mod files;
mod say;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(command::run(cli)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say::end(&error),
    }
}
