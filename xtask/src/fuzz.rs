//! `fuzz`: the fuzz targets of PID 1's library, each for a while, guided by coverage.
//!
//! What they try is in `init/fuzz/src/targets.rs`; `cargo test` runs the same bodies over a bounded set of inputs. The
//! corpus grows in `out/fuzz/<target>`, beside the tracked seeds; what fails is kept in `init/fuzz/artifacts`.

use crate::{doctor, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use podium_image::run;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Feed PID 1's parsers with inputs of all kinds: one target, or all of them one after the other.
///
/// The first time takes minutes: cargo-fuzz is installed when it is missing, and everything is built once more with
/// coverage.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which target [default: all]; a name in init/fuzz/fuzz_targets
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Runs the targets; the first that finds something ends it.
///
/// # Errors
/// When a target fails, there is none of that name, or something could not be built.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = crate::top().join("init/fuzz");
    let all = targets(&folder)?;
    let chosen: Vec<&String> =
        all.iter().filter(|name| arguments.target.as_ref().is_none_or(|wanted| wanted == *name)).collect();
    ensure!(!chosen.is_empty(), "no such target; there are {}", all.join(", "));
    doctor::ensure()?;
    install()?;
    say::phase("building the targets", || run::loud(cargo_fuzz("build").args(target_word(&chosen))))?;
    for name in &chosen {
        let corpus = crate::top().join("out/fuzz").join(name);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let mut fuzz = cargo_fuzz("run");
        fuzz.arg(name).arg(&corpus).arg(folder.join("seeds").join(name));
        fuzz.arg("--").arg(format!("-max_total_time={}", arguments.seconds));
        // One input that takes longer than this is a finding too, and so is one that takes more memory.
        fuzz.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        say::phase(&format!("fuzzing {name}"), || run::loud(&mut fuzz))?;
    }
    say::note(&format!("{} targets, {} s each: nothing found", chosen.len(), arguments.seconds));
    Ok(())
}

/// The names of the targets, sorted.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let list = || fs::read_dir(&folder)?.collect::<std::io::Result<Vec<_>>>();
    let entries = list().with_context(|| folder.display().to_string())?;
    let names = entries.iter().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    Ok(names)
}

/// Builds one target alone when only one will run.
fn target_word<'a>(chosen: &[&'a String]) -> Option<&'a String> {
    (chosen.len() == 1).then(|| chosen.first().copied()).flatten()
}

/// `cargo fuzz` beside its Cargo.toml. It passes the compiler flags that only nightly takes by default; the stable
/// compiler, which is the one that everything else is built with, takes them when it is told to.
fn cargo_fuzz(verb: &str) -> Command {
    let mut cargo = crate::cargo();
    cargo.current_dir(crate::top().join("init/fuzz")).env("RUSTC_BOOTSTRAP", "1");
    cargo.args(["fuzz", verb, "--target-dir"]).arg(crate::top().join("target/fuzz"));
    cargo
}

fn install() -> Result<()> {
    let mut probe = crate::cargo();
    if probe.args(["fuzz", "--version"]).output().is_ok_and(|told| told.status.success()) {
        return Ok(());
    }
    say::phase("installing cargo-fuzz", || {
        run::loud(crate::cargo().args(["install", "--locked", "cargo-fuzz"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_those_of_the_folder() {
        let names = targets(&crate::top().join("init/fuzz")).unwrap();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        assert!(names.iter().any(|name| name == "config"), "{names:?}");
    }

    #[test]
    fn one_target_is_built_alone() {
        let (one, other) = ("a".to_owned(), "b".to_owned());
        assert_eq!(target_word(&[&one]), Some(&one));
        assert_eq!(target_word(&[&one, &other]), None);
    }
}
