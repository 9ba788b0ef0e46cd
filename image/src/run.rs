//! Runs the programs of others: each is printed before it runs, and its failure names it, its exit code and what it
//! said, with the package that has it when it is missing.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Starts a command that inherits little that could change its output: C locale, UTC, a plain umask is the caller's.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("TZ", "UTC").env("PATH", path_with_sbin()).stdin(Stdio::null());
    command
}

/// Takes what cargo told its own child of the package it runs from a command that is cargo again: a build script that
/// names these to cargo, as ring's does, is run anew whenever the caller is another package, and all above it compiled.
pub fn without_callers_package(cargo: &mut Command) {
    let is_of_a_package =
        |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(is_of_a_package) {
        cargo.env_remove(name);
    }
}

/// Prints and runs a command whose output is of interest only when it fails.
pub fn quiet(command: &mut Command) -> Result<()> {
    capture(command).map(|_| ())
}

/// Prints and runs a command; its stdout.
pub fn capture(command: &mut Command) -> Result<String> {
    let line = line(command);
    eprintln!("$ {line}");
    let output = output(command, &line)?;
    if !output.status.success() {
        bail!("`{line}` failed ({}):\n{}", output.status, said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command without printing it; its stdout, and `None` when it failed.
pub fn ask(command: &mut Command) -> Result<Option<String>> {
    let line = line(command);
    let output = output(command, &line)?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Prints and runs a command that talks to the person itself; its stdout goes to our stderr.
pub fn loud(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    command.stdout(std::io::stderr());
    let status = command.status().with_context(|| cannot_run(command, &line))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// The caller's PATH with the folders that an ordinary user's lacks.
pub fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned()))
}

/// The command as one would type it, without the environment.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn output(command: &mut Command, line: &str) -> Result<Output> {
    command.output().with_context(|| cannot_run(command, line))
}

fn cannot_run(command: &Command, line: &str) -> String {
    let program = command.get_program().to_string_lossy();
    match crate::host::package_of(&program) {
        Some(package) => format!(
            "cannot run `{line}`; `{program}` is in the Debian package {package} (`cargo xtask doctor --install`)"
        ),
        None => format!("cannot run `{line}`"),
    }
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_code_and_words() {
        let error = capture(command("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "`sh -c 'echo why >&2; exit 3'` failed (exit status: 3):\nwhy");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let mut command = command("mkfs.erofs");
        command.env("PATH", "/nonexistent");
        let error = format!("{:#}", quiet(&mut command).unwrap_err());
        assert!(error.contains("Debian package erofs-utils"), "{error}");
    }

    #[test]
    fn a_nested_cargo_is_told_nothing_of_our_package() {
        let mut cargo = Command::new("cargo");
        without_callers_package(&mut cargo);
        let removed: Vec<_> =
            cargo.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"] {
            assert!(removed.contains(&OsStr::new(name)), "{removed:?}");
        }
    }

    #[test]
    fn words_are_quoted_as_a_shell_would_need() {
        assert_eq!(line(command("a").args(["b c", "it's", "", "x=1"])), r"a 'b c' 'it'\''s' '' x=1");
    }
}
