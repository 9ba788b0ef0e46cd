//! `validate`: a machine config checked here, by the very parser that nodes use, without a node.

use crate::fault::Fault;
use crate::{files, say};
use anyhow::Result;
use clap::Args;
use podium_init::config::{self, Severity};
use podium_podiumctl::problems;

/// Check a machine config without a node
///
/// Every problem is shown with its line. Exit code 0: a node takes it; 1: it does not.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The machine config, - for standard input
    #[arg(short, long, visible_short_alias = 'c', visible_alias = "config", value_name = "FILE")]
    file: String,
    /// Warnings are errors, too
    #[arg(long)]
    strict: bool,
    /// talosctl's word for where the node runs: the rules are the same everywhere
    #[arg(short, long, hide = true)]
    mode: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let text = files::read_text(&arguments.file)?;
    let outcome = config::parse(text.as_bytes());
    let name = if arguments.file == "-" { "standard input" } else { &arguments.file };
    let source = problems::Source::new(name, &text);
    for problem in &outcome.problems {
        say::painted(&problems::show(problem, &source, say::on_stderr()));
    }
    let errors = outcome
        .problems
        .iter()
        .filter(|problem| arguments.strict || problem.severity == Severity::Error)
        .count();
    if errors > 0 || outcome.config.is_none() {
        let plural = if errors == 1 { "" } else { "s" };
        return Err(Fault::new(format!("{name} has {errors} problem{plural}")).into());
    }
    let pods = outcome.manifests.len();
    say::note(&format!("{name} is valid ({pods} pod{})", if pods == 1 { "" } else { "s" }));
    Ok(())
}
