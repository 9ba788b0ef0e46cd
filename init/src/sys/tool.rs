//! Runs one of the image's programs to its end, for the steps of a boot: PID 1 waits for it and reads what it says.
//!
//! Only before the loop begins: from then on the reactor alone reaps. Its time is bounded, and what it prints, which is
//! given back as one line for an error.

use super::clock;
use super::limited::listen;
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The most output that is kept; the rest is read and dropped, so that the program never blocks.
const OUTPUT_MAX: usize = 64 * 1024;
/// e2fsck of a disk of some TB takes the better part of an hour; what takes longer hangs on a broken disk, and the node
/// is of more use without that one.
const LIMIT: Duration = Duration::from_secs(3600);

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
    start(LIMIT, program, args, input)
}

/// Like [`run`], and an error with what it printed unless it ends with code 0.
pub(crate) fn must(program: &str, args: &[&str], input: &[u8]) -> Result<String> {
    within(LIMIT, program, args, input)
}

/// Like [`must`], for one that is to be quick.
pub(crate) fn within(limit: Duration, program: &str, args: &[&str], input: &[u8]) -> Result<String> {
    let ended = start(limit, program, args, input)?;
    if !ended.status.success() {
        bail!("{program}: {}: {}", ended.status, ended.line());
    }
    Ok(ended.output)
}

fn start(limit: Duration, program: &str, args: &[&str], input: &[u8]) -> Result<Ended> {
    let since = clock::now();
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let mut patience = || {
        let seconds = clock::now().saturating_sub(since).as_secs();
        log::info!("{program} {}: at work for {seconds} s", args.join(" "));
    };
    let talked = give(&mut child, input)
        .and_then(|()| listen(&mut child, since + limit, &mut said, &mut complained, &mut patience));
    if talked.is_err() {
        // It may have ended by itself meanwhile, which is as well.
        drop(child.kill());
    }
    let status = child.wait().with_context(|| format!("wait for {program}"))?;
    talked.with_context(|| format!("{program} {}", args.join(" ")))?;
    said.truncate(OUTPUT_MAX);
    complained.truncate(OUTPUT_MAX);
    said.append(&mut complained);
    Ok(Ended { status, output: String::from_utf8_lossy(&said).into_owned() })
}

/// `input` is smaller than a pipe's buffer: nothing can block crosswise.
fn give(child: &mut Child, input: &[u8]) -> Result<()> {
    let Some(mut stdin) = child.stdin.take() else { return Ok(()) };
    match stdin.write_all(input) {
        // A program that does not read its input closes it: its exit code tells what that means.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
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
    fn one_that_hangs_is_killed() {
        let error = within(Duration::from_millis(50), "/bin/sleep", &["1000"], b"").unwrap_err();
        assert_eq!(format!("{error:#}"), "/bin/sleep 1000: not done in time");
    }

    #[test]
    fn more_output_than_is_kept_does_not_block() {
        let ended = run("/usr/bin/head", &["-c", "1000000", "/dev/zero"], b"ignored").unwrap();
        assert!(ended.status.success());
        assert_eq!(ended.output.len(), 65536);
    }
}
