//! `check`: everything that can be said about the sources without running them. Warnings are errors.

use crate::{doctor, rules, say};
use anyhow::Result;
use clap::Args;
use podium_image::run;
use serde_json::json;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Check formatting, lints, documentation and the design's rules; warnings are errors.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Runs all checks, also after one has failed, and says which did.
///
/// # Errors
/// When the design's rules could not be checked at all.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    doctor::ensure()?;
    let mut results = Vec::new();
    for (name, words, rustdoc_flags) in COMMANDS {
        let since = Instant::now();
        let mut cargo = crate::cargo();
        cargo.args(words.split_whitespace());
        if let Some(flags) = rustdoc_flags {
            cargo.env("RUSTDOCFLAGS", flags);
        }
        results.push(Outcome {
            name,
            passed: passed(name, &mut cargo),
            seconds: since.elapsed().as_secs_f64(),
        });
    }
    let since = Instant::now();
    say::note("design rules");
    let breaches = rules::check(&crate::top())?;
    for breach in &breaches {
        eprintln!("{breach}");
    }
    results.push(Outcome {
        name: "design rules",
        passed: breaches.is_empty(),
        seconds: since.elapsed().as_secs_f64(),
    });

    let failed = results.iter().filter(|result| !result.passed).count();
    if arguments.json {
        let checks: Vec<_> = results
            .iter()
            .map(|result| json!({"name": result.name, "passed": result.passed, "seconds": result.seconds}))
            .collect();
        say::json(&json!({"passed": failed == 0, "checks": checks, "breaches": breaches}))?;
    } else {
        let row = |result: &Outcome| {
            let verdict = if result.passed { "passed" } else { "FAILED" };
            vec![result.name.to_owned(), verdict.to_owned(), format!("{:.1} s", result.seconds)]
        };
        print!("{}", say::table(&results.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Name, cargo's words, RUSTDOCFLAGS. The tests in namespaces and machines are no part of a bare `cargo test`, so
/// their targets are named.
const COMMANDS: [(&str, &str, Option<&str>); 4] = [
    ("format", "fmt --all --check", None),
    ("lints", "clippy --workspace --all-targets --locked -- -D warnings", None),
    (
        "lints of the tests",
        "clippy -p podium-tests -p podium-image --test ns --test vm --test faults --test reproducible --locked -- -D warnings",
        None,
    ),
    ("documentation", "doc --workspace --no-deps --locked", Some("-D warnings")),
];

struct Outcome {
    name: &'static str,
    passed: bool,
    seconds: f64,
}

fn passed(name: &str, command: &mut Command) -> bool {
    say::note(name);
    match run::loud(command) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{error:#}");
            false
        }
    }
}
