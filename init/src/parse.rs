//! The parsing child, `init parse`, and PID 1's side of it.
//!
//! A config text may come from anyone, so PID 1 never unpacks or parses one: it hands the raw bytes to a child of the
//! same binary, which first of all limits itself, and takes back a bounded [`Outcome`]. What happens to the child
//! (a crash, a limit) is a problem of that config and of nothing else.

use crate::sys::converse::{Limits, Over, Said, converse};
use anyhow::{Context, Result, anyhow, bail};
use podium_init::base64;
use podium_init::config::{self, MAX_TEXT, Outcome, Problem};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::time::Duration;

/// The image's zstd, which also undoes gzip.
const ZSTD: &str = "/usr/bin/zstd";
/// The most raw bytes that are taken: a text of the largest size, in base64.
const RAW_MAX: usize = MAX_TEXT / 3 * 4 + 4;
/// The largest outcome: the pods of the largest text as indented JSON within JSON.
const OUTCOME_MAX: usize = 64 << 20;
/// The child's memory: some forty times the largest sensible config.
const MEMORY_MAX: u64 = 256 << 20;
/// The child's CPU time in seconds: the largest config takes about two, four when it has a problem, and ten times that
/// under emulation.
const CPU_MAX: u64 = 45;
/// The child's descriptors: standard ones, pipes to zstd, and room.
const FILES_MAX: u64 = 16;
/// Until then the child has ended, or is killed: its CPU time, and as much again on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(90);
/// zstd's share of that, so that the child is still there to say what took so long.
const UNPACK_MAX: Duration = Duration::from_secs(20);

/// How the raw bytes of a config are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A file: text, or text compressed by gzip or zstd.
    Plain,
    /// `podium.config.inline`: base64 around that.
    Inline,
}

/// `init parse [--encoding plain|inline]`: the child. Code 0 whenever an outcome was printed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    limit_ourselves()?;
    let encoding = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["--encoding", "plain"] => Encoding::Plain,
        ["--encoding", "inline"] => Encoding::Inline,
        _ => bail!("usage: init parse [--encoding plain|inline]"),
    };
    let mut raw = Vec::new();
    let most = u64::try_from(RAW_MAX)? + 1;
    std::io::stdin().lock().take(most).read_to_end(&mut raw).context("read the config from stdin")?;
    let outcome = match unpack(raw, encoding) {
        Ok(text) => config::parse(&text),
        Err(problem) => stopped(*problem),
    };
    let json = serde_json::to_vec(&outcome).context("outcome as JSON")?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&json).and_then(|()| stdout.flush()).context("print the outcome")
}

/// Has a child check one config. An error means that no child could be asked; whatever is wrong with the config, or
/// happened to the child while it read it, is a problem in the outcome.
pub(crate) fn check(raw: &[u8], encoding: Encoding) -> Result<Outcome> {
    check_by("/proc/self/exe", raw, encoding)
}

fn check_by(program: &str, raw: &[u8], encoding: Encoding) -> Result<Outcome> {
    if raw.len() > RAW_MAX {
        return Ok(stopped(too_large()));
    }
    let encoding = match encoding {
        Encoding::Plain => "plain",
        Encoding::Inline => "inline",
    };
    let mut command = Command::new(program);
    command.arg0("init").args(["parse", "--encoding", encoding]);
    let said = converse(&mut command, raw, Limits { output: OUTCOME_MAX, time: TIME_MAX })?;
    match death(&said) {
        Some(problem) => Ok(stopped(problem)),
        None => serde_json::from_slice(&said.output).context("outcome of the parsing child"),
    }
}

/// Why there is no outcome to read, in terms of the config.
fn death(said: &Said) -> Option<Problem> {
    let complaint = said.errors.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let no_memory = complaint.starts_with("memory allocation of ");
    let complaint = if complaint.is_empty() { String::new() } else { format!(": {}", complaint.trim()) };
    let message = match (said.over, said.ended.signal()) {
        (Some(Over::Output), _) => format!("its pods are more than {} MiB of JSON", OUTCOME_MAX >> 20),
        (Some(Over::Time), _) => format!("reading it took more than {} s", TIME_MAX.as_secs()),
        (None, Some(signal)) if signal == Signal::XCPU.as_raw() => {
            format!("reading it took more than {CPU_MAX} s of CPU time")
        }
        (None, Some(_)) if no_memory => {
            format!("reading it takes more than {} MiB of memory", MEMORY_MAX >> 20)
        }
        (None, Some(signal)) => format!("the parser was ended by signal {signal}{complaint}"),
        (None, None) if !said.ended.success() => format!("the parser failed{complaint}"),
        (None, None) => return None,
    };
    Some(Problem::error("", message).remedy("is this a machine config? make it smaller or simpler"))
}

/// The very first thing that the child does; a later exec (zstd) keeps the limits.
fn limit_ourselves() -> Result<()> {
    for (resource, soft, hard) in [
        (Resource::As, MEMORY_MAX, MEMORY_MAX),
        // At the soft limit comes SIGXCPU, which tells why; at the hard one SIGKILL.
        (Resource::Cpu, CPU_MAX, CPU_MAX + 1),
        (Resource::Nofile, FILES_MAX, FILES_MAX),
        (Resource::Core, 0, 0),
    ] {
        let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
        setrlimit(resource, limit).with_context(|| format!("limit {resource:?}"))?;
    }
    Ok(())
}

/// Undoes the compression of a config that is in use.
///
/// # Errors
/// It is damaged, or there is no memory for it.
pub(crate) fn plain(raw: Vec<u8>) -> Result<Vec<u8>> {
    unpack(raw, Encoding::Plain).map_err(|problem| anyhow!("{problem}"))
}

/// Undoes base64, then compression, within the largest text's size.
fn unpack(raw: Vec<u8>, encoding: Encoding) -> Result<Vec<u8>, Box<Problem>> {
    if raw.len() > RAW_MAX {
        return Err(too_large().into());
    }
    let bytes = match encoding {
        Encoding::Plain => raw,
        Encoding::Inline => base64::decode(&raw).map_err(|what| {
            Problem::error("", format!("not base64: {what}")).remedy("make it with: base64 -w0 machine.yaml")
        })?,
    };
    let format = match bytes.as_slice() {
        [0x1f, 0x8b, ..] => "gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => return Ok(bytes),
    };
    let limits = Limits { output: MAX_TEXT, time: UNPACK_MAX };
    let said = match converse(Command::new(ZSTD).args(["-d", "-c", "-q"]), &bytes, limits) {
        Ok(said) => said,
        Err(error) => return Err(Problem::error("", format!("cannot undo {format}: {error:#}")).into()),
    };
    match said.over {
        Some(Over::Output) => Err(too_large().into()),
        None if said.ended.success() => Ok(said.output),
        Some(Over::Time) => {
            let message = format!("undoing {format} took more than {} s", UNPACK_MAX.as_secs());
            Err(Problem::error("", message).into())
        }
        None => {
            let problem = Problem::error("", format!("damaged {format}: {}", complaint(&said.errors)));
            Err(problem.remedy(format!("test it with: {format} -t")).into())
        }
    }
}

/// zstd's own words without its names for itself and for its input, which nobody has given it.
fn complaint(errors: &str) -> String {
    let words = errors.split_whitespace().filter(|word| !word.starts_with("/*stdin*\\"));
    words.filter(|word| !["zstd:", ":"].contains(word)).collect::<Vec<_>>().join(" ")
}

fn too_large() -> Problem {
    Problem::error("", format!("the config is larger than {} MiB", MAX_TEXT >> 20))
        .remedy("keep images and large files out of it")
}

fn stopped(problem: Problem) -> Outcome {
    Outcome { problems: vec![problem], ..Outcome::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    fn told(over: Option<Over>, ended: i32, errors: &str) -> Option<String> {
        let ended = ExitStatus::from_raw(ended);
        death(&Said { output: Vec::new(), errors: errors.into(), ended, over }).map(|problem| problem.message)
    }

    #[test]
    fn a_childs_death_is_told_in_terms_of_the_config() {
        for (over, ended, errors, want) in [
            (None, 0, "a warning\n", None),
            (None, 24, "", Some("reading it took more than 45 s of CPU time")),
            (
                None,
                6,
                "memory allocation of 9 bytes failed\nskipping backtrace\n",
                Some("reading it takes more than 256 MiB of memory"),
            ),
            (
                None,
                6,
                "\nthread 'main' panicked at a.rs:1:2:\nindex\n",
                Some("the parser was ended by signal 6: thread 'main' panicked at a.rs:1:2:"),
            ),
            (None, 11, "", Some("the parser was ended by signal 11")),
            (None, 1 << 8, "podium: parse: x", Some("the parser failed: podium: parse: x")),
            (Some(Over::Time), 9, "", Some("reading it took more than 90 s")),
            (Some(Over::Output), 9, "", Some("its pods are more than 64 MiB of JSON")),
        ] {
            assert_eq!(told(over, ended, errors).as_deref(), want);
        }
    }

    #[test]
    fn zstds_complaint_is_told_without_its_names() {
        assert_eq!(complaint("zstd: /*stdin*\\: premature gz end \n"), "premature gz end");
        assert_eq!(
            complaint("/*stdin*\\ : Decoding error (36) : too much\n"),
            "Decoding error (36) too much"
        );
        assert_eq!(complaint(""), "");
    }

    #[test]
    fn a_child_that_is_no_parser_is_a_problem_or_an_error_but_no_config() {
        let outcome = check_by("/bin/cat", b"version: v1alpha1", Encoding::Plain).unwrap();
        assert!(outcome.problems[0].message.starts_with("the parser failed: "), "{outcome:?}");
        assert!(check_by("/bin/true", b"", Encoding::Plain).is_err());
        assert!(check_by("/no/such", b"", Encoding::Plain).is_err());
    }

    #[test]
    fn more_than_the_largest_text_is_not_even_handed_over() {
        let outcome = check_by("/no/such", &vec![b' '; RAW_MAX + 1], Encoding::Inline).unwrap();
        assert_eq!(outcome.problems[0].message, "the config is larger than 4 MiB");
    }
}
