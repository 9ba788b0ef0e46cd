//! Runs one of the image's programs to its end, for the steps of a boot: PID 1 waits for it and reads what it says.
//!
//! Only before the loop begins: from then on the reactor alone reaps. What it prints is bounded, and given back as
//! one line for an error.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

/// The most output that is kept; the rest is read and dropped, so that the program never blocks.
const OUTPUT_MAX: u64 = 64 * 1024;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Code or signal.
    pub status: ExitStatus,
    /// Its standard output and error, in this order.
    pub output: String,
}

impl Ended {
    /// What it printed, as one line.
    pub(crate) fn line(&self) -> String {
        self.output.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Runs `program` with `args`, an empty environment, and `input` on its standard input.
pub(crate) fn run(program: &str, args: &[&str], input: &[u8]) -> Result<Ended> {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let talked = talk(&mut child, input);
    let status = child.wait().with_context(|| format!("wait for {program}"))?;
    Ok(Ended { status, output: talked.with_context(|| format!("talk to {program}"))? })
}

/// Like [`run`], and an error with what it printed unless it ends with code 0.
pub(crate) fn must(program: &str, args: &[&str], input: &[u8]) -> Result<String> {
    let ended = run(program, args, input)?;
    if !ended.status.success() {
        bail!("{program}: {}: {}", ended.status, ended.line());
    }
    Ok(ended.output)
}

/// `input` is smaller than a pipe's buffer, and so are these programs' errors: nothing can block crosswise.
fn talk(child: &mut Child, input: &[u8]) -> Result<String> {
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes it: its exit code tells what that means.
        match stdin.write_all(input) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    let mut bytes = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.by_ref().take(OUTPUT_MAX).read_to_end(&mut bytes)?;
        std::io::copy(&mut stdout, &mut std::io::sink())?;
    }
    if let Some(mut stderr) = child.stderr.take() {
        stderr.by_ref().take(OUTPUT_MAX).read_to_end(&mut bytes)?;
        std::io::copy(&mut stderr, &mut std::io::sink())?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_input_and_an_empty_environment() {
        assert_eq!(must("/bin/cat", &[], b"hello").unwrap(), "hello");
        assert_eq!(must("/usr/bin/env", &[], b"").unwrap(), "");
    }

    #[test]
    fn a_failure_says_how_it_ended_and_what_it_printed() {
        let error = must("/bin/cat", &["/no/such/file"], b"").unwrap_err().to_string();
        assert!(error.starts_with("/bin/cat: exit status: 1: /bin/cat: /no/such/file"), "{error}");
        assert!(must("/no/such/program", &[], b"").unwrap_err().to_string().contains("run /no/such/program"));
    }

    #[test]
    fn more_output_than_is_kept_does_not_block() {
        let ended = run("/usr/bin/head", &["-c", "1000000", "/dev/zero"], b"ignored").unwrap();
        assert!(ended.status.success());
        assert_eq!(ended.output.len(), 65536);
    }
}
