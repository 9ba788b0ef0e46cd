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
mod fuzz;
mod image;
mod interrupt;
mod operate;
mod rules;
mod run;
mod say;
mod soak;
mod suite;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Build, run, test, check and measure Podium, the operating system that runs static pods.
///
/// Start with `cargo xtask run`: it installs what this machine lacks (Debian packages, by apt-get), builds everything
/// and boots the image in QEMU. The first time takes minutes, for it builds a kubelet; later ones seconds.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Arguments),
    Test(suite::Arguments),
    Check(check::Arguments),
    Fuzz(fuzz::Arguments),
    Image(image::Arguments),
    Fetch(fetch::Arguments),
    Doctor(doctor::Arguments),
    Bench(bench::Arguments),
    Clean(clean::Arguments),
}

fn main() -> ExitCode {
    match act(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Test(arguments) => suite::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments).map(|()| ExitCode::SUCCESS),
        Verb::Image(arguments) => image::run(&arguments).map(|()| ExitCode::SUCCESS),
        Verb::Fetch(arguments) => fetch::run(&arguments).map(|()| ExitCode::SUCCESS),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
        Verb::Clean(arguments) => clean::run(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// The top of the repository.
fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// `cargo` at the top of the repository. It is found where it is found now, or beside the one that runs us.
fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(top());
    podium_image::run::without_callers_package(&mut cargo);
    if let (Some(path), Some(own)) = (std::env::var_os("PATH"), std::env::var_os("CARGO").map(PathBuf::from))
    {
        let folders = std::env::split_paths(&path).chain(own.parent().map(PathBuf::from));
        // A folder with a colon in its name cannot be in PATH; the old value is as good as it was.
        cargo.env("PATH", std::env::join_paths(folders).unwrap_or(path));
    }
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
