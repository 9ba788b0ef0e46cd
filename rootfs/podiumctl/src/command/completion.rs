//! `completion`: what a shell needs to complete this program's words.

use crate::cli::Cli;
use crate::say;
use anyhow::Result;
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

/// Print the completion script of a shell
///
///   source <(podiumctl completion bash)
///   podiumctl completion zsh > /usr/local/share/zsh/site-functions/_podiumctl
///   podiumctl completion fish > ~/.config/fish/completions/podiumctl.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Which shell
    #[arg(value_enum)]
    shell: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let shell = match arguments.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "podiumctl", &mut script);
    say::data(script)
}
