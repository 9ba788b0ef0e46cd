//! `doctor`: what this machine lacks for building, running and testing Podium, as one line that installs it.

use anyhow::Result;
use clap::Args;
use podium_image::host;
use std::process::ExitCode;

/// Tell what this machine lacks, as one apt-get line; the exit code is 1 when something is missing.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Run that line, by sudo when not root
    #[arg(long)]
    install: bool,
    /// Print what is missing as JSON: a list of {package, probe, reason}
    #[arg(long)]
    json: bool,
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.install {
        host::install(&host::missing())?;
    }
    let missing = host::missing();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&missing)?);
    }
    if missing.is_empty() {
        eprintln!("nothing is missing: `cargo xtask run` boots Podium");
        return Ok(ExitCode::SUCCESS);
    }
    for need in &missing {
        eprintln!("{:<24} {} ({} is missing)", need.package, need.reason, need.probe);
    }
    let line = host::install_line(&missing, host::is_root()).join(" ");
    if arguments.json {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
    Ok(ExitCode::FAILURE)
}

/// Installs what this machine lacks, first thing of the commands that need it.
pub(crate) fn ensure() -> Result<()> {
    host::install(&host::missing())
}
