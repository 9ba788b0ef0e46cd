//! `cargo xtask`: builds, runs, tests, checks and measures Podium.
//!
//! Each command is a file of its own name; this one only says what there is. A command prints the programs it runs,
//! how long each part took, and at the end what was made and how to use it, all on standard error; results are on
//! standard output, and with `--json` nothing else is.

mod bench;
mod check;
mod clean;
mod config;
mod doctor;
mod fetch;
mod image;
mod interrupt;
mod rules;
mod run;
mod say;
mod suite;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Build, run, test, check and measure Podium, the operating system that runs static pods.
///
/// Start with `cargo xtask run`: it installs what this machine lacks (Debian packages, by apt-get), builds everything
/// and boots the image in QEMU. The first time takes minutes, for it builds a kubelet; later ones seconds.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Test(suite::Arguments),
    Check(check::Arguments),
    Image(image::Arguments),
    Fetch(fetch::Arguments),
    Doctor(doctor::Arguments),
    Bench(bench::Arguments),
    Clean(clean::Arguments),
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Test(arguments) => suite::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Image(arguments) => image::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Fetch(arguments) => fetch::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Clean(arguments) => clean::run(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// The top of the repository.
fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// The cargo that runs us, at the top of the repository.
fn cargo() -> std::process::Command {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(top());
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_help() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }
}
