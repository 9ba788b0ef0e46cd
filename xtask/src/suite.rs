//! `test`: the kinds of tests, each with what it needs built first.
//!
//! `unit` needs nothing but the sources, `ns` the real binary and the host's namespaces, `image` the components, `vm`
//! the whole image and QEMU, `faults` what its faults need. All are plain `cargo test` underneath; their lines are
//! passed on as they come and counted for the end. `faults` prints a table instead, or its rows as JSON; `soak` is
//! `soak.rs`.

use crate::soak::{self, Scale};
use crate::{doctor, image, operate, say};
use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use podium_tests::artifacts::IMAGE_VARIABLE;
use podium_tests::operator::CTL_VARIABLE;
use serde::Serialize;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

/// The program under test in namespaces, for the tests in `tests/ns.rs`.
const INIT_VARIABLE: &str = "PODIUM_INIT";

/// All kinds, in this order; those of one group at the same time. Namespaces wait for most of their time, so that the
/// packing of an image fits in beside them; the machines of `faults` fit in beside those of `vm`, and both are ready when
/// the image is.
const ALL: [&[Kind]; 3] = [&[Kind::Unit], &[Kind::Ns, Kind::Image], &[Kind::Faults, Kind::Vm]];

/// Run the tests: all of them, or those of one kind.
///
/// Kinds build on each other: `unit` takes seconds, `ns` runs the real PID 1 in namespaces of this machine, `faults`
/// does to it what goes wrong in the field and prints what was expected and what was seen, `image` packs the image
/// twice and compares, `vm` boots the real image in QEMU again and again (half an hour and more without KVM).
///
/// `soak` is none of them and runs when it is named: 10,000 restarts, 1,000,000 orphans and 1,000 applied configs,
/// which leave PID 1 with the memory, the descriptors and the files that it had before.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which tests [default: all, some kinds at the same time]
    #[arg(value_name = "KIND")]
    kind: Option<Kind>,
    /// Only tests whose name contains this; of `faults`: whose `area: name` does
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Print the faults and where each is injected, and do nothing (kind `faults`)
    #[arg(long)]
    list: bool,
    /// How much of a whole soak is done: 1, or a part such as 1/100 (kind `soak`)
    #[arg(long, value_name = "PART", default_value = "1")]
    scale: Scale,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Decisions: unit, golden and simulation tests
    Unit,
    /// The real binary as PID 1 in namespaces
    Ns,
    /// What goes wrong: fault, what is expected, what is seen
    Faults,
    /// The image, packed twice: the same bytes
    Image,
    /// The real image in QEMU
    Vm,
    /// A long life of the real binary: flat memory, nothing left behind; not among all
    Soak,
}

/// What became of one kind of tests.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Outcome {
    kind: Kind,
    succeeded: bool,
    #[serde(flatten)]
    counted: Counted,
    seconds: f64,
}

/// What the lines of a test run say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Counted {
    passed: u64,
    failed: u64,
    /// What was printed of each test that failed. Told again at the end, for other lines follow where it stood.
    failures: Vec<String>,
}

/// Runs the tests, also the next kind when one has failed, and sums up.
///
/// # Errors
/// When something could not be built or started.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(!arguments.list || arguments.kind == Some(Kind::Faults), "--list is for `test faults`");
    if arguments.list {
        print!("{}", faults_of(arguments)?);
        return Ok(ExitCode::SUCCESS);
    }
    doctor::ensure()?;
    if arguments.kind == Some(Kind::Soak) {
        return soak::run(arguments.scale, arguments.json);
    }
    if arguments.kind == Some(Kind::Faults) && arguments.json {
        return faults_as_json(arguments);
    }
    let mut outcomes = Vec::new();
    let groups =
        arguments.kind.as_ref().map_or_else(|| ALL.to_vec(), |kind| vec![std::slice::from_ref(kind)]);
    for kinds in groups {
        let ready = kinds.iter().map(|kind| Ok((*kind, command(*kind, arguments)?)));
        let ready = ready.collect::<Result<Vec<_>>>()?;
        let done = thread::scope(|scope| {
            let one = |(kind, command)| scope.spawn(move || outcome(kind, command, arguments));
            let running: Vec<_> = ready.into_iter().map(one).collect();
            let ended =
                running.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")));
            ended.collect::<Result<Vec<_>>>()
        })?;
        outcomes.extend(done.into_iter().collect::<Result<Vec<_>>>()?);
    }
    let succeeded = outcomes.iter().all(|outcome| outcome.succeeded);
    let sum =
        |count: fn(&Counted) -> u64| outcomes.iter().map(|outcome| count(&outcome.counted)).sum::<u64>();
    let (passed, failed) = (sum(|counted| counted.passed), sum(|counted| counted.failed));
    let lines = || {
        outcomes.iter().flat_map(|outcome| outcome.counted.failures.iter().map(|line| (outcome.kind, line)))
    };
    for (kind, line) in lines() {
        eprintln!("{kind:?}: {line}");
    }
    for (kind, name) in lines().filter_map(|(kind, line)| Some((kind, name_of_failure(line)?))) {
        eprintln!("failed: {kind:?}: {name}");
    }
    if arguments.json {
        let result = serde_json::json!({"succeeded": succeeded, "passed": passed, "failed": failed, "kinds": outcomes});
        say::json(&result)?;
    } else {
        println!("{passed} passed, {failed} failed");
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one kind, for which all is built.
fn outcome(kind: Kind, mut command: Command, arguments: &Arguments) -> Result<Outcome> {
    let since = Instant::now();
    // A filter is cargo's own word; what follows `--` goes to the test programs.
    let (words, program_words) = words(kind);
    command.args(words).args(&arguments.filter).arg("--").args(program_words);
    // Where two kinds talk at the same time, each line says whose it is.
    let prefix = if has_company(kind, arguments) { format!("{kind:?}: ") } else { String::new() };
    let (succeeded, counted) = counted(&mut command, &prefix, arguments.json)?;
    let Counted { passed, failed, .. } = counted;
    say::note(&format!("{kind:?}: {passed} passed, {failed} failed, {}", say::seconds(since.elapsed())));
    Ok(Outcome { kind, succeeded, counted, seconds: since.elapsed().as_secs_f64() })
}

/// Whether others run beside it.
fn has_company(kind: Kind, arguments: &Arguments) -> bool {
    arguments.kind.is_none() && ALL.iter().any(|group| group.len() > 1 && group.contains(&kind))
}

/// `cargo` with what the tests of that kind find through the environment; builds it first.
fn command(kind: Kind, arguments: &Arguments) -> Result<Command> {
    let mut cargo = crate::cargo();
    let (binary, image) = match kind {
        Kind::Unit | Kind::Image | Kind::Soak => (false, false),
        Kind::Ns => (true, false),
        Kind::Faults => {
            let faults = faults_of(arguments)?;
            let any = |place: &str| faults.lines().any(|fault| fault.ends_with(place));
            (any(" (ns)"), any(" (vm)"))
        }
        Kind::Vm => (false, true),
    };
    if binary {
        let binary = say::phase("building PID 1", || image::static_binary("podium-init", "init"))?;
        cargo.env(INIT_VARIABLE, binary);
    }
    if image {
        let image = image::ensure_for_tests()?;
        let file = crate::top().join("out/test-image.json");
        image.save(&file)?;
        cargo.env(IMAGE_VARIABLE, file);
    }
    if kind == Kind::Vm {
        cargo.env(CTL_VARIABLE, say::phase("building podiumctl", operate::podiumctl_for_tests)?);
    }
    Ok(cargo)
}

/// The faults that the filter lets through, a line each: `area: name (ns)` or `(vm)`.
fn faults_of(arguments: &Arguments) -> Result<String> {
    let mut cargo = crate::cargo();
    cargo.args(words(Kind::Faults).0).args(["--quiet", "--", "--list"]).args(&arguments.filter);
    podium_image::run::capture(&mut cargo)
}

/// `test faults --json`: the rows, and nothing else on standard output.
fn faults_as_json(arguments: &Arguments) -> Result<ExitCode> {
    let mut cargo = command(Kind::Faults, arguments)?;
    cargo.args(words(Kind::Faults).0).args(["--quiet", "--", "--json"]).args(&arguments.filter);
    eprintln!("$ {}", podium_image::run::line(&cargo));
    let succeeded = cargo.stdin(Stdio::null()).status().context("cargo")?.success();
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Words for cargo, and for the test programs. Namespaces wait for most of their time, so that there are more of them
/// than processors; a machine keeps one processor half busy without KVM. No test measures anything. All are of the
/// whole workspace, or cargo would compile again what another choice of packages needs with other features.
fn words(kind: Kind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        Kind::Unit => (&["test", "--locked", "--workspace"], &[]),
        Kind::Ns => (&["test", "--locked", "--workspace", "--test", "ns"], &["--test-threads=6"]),
        Kind::Faults => (&["test", "--locked", "--workspace", "--test", "faults"], &[]),
        Kind::Image => (&["test", "--locked", "--workspace", "--test", "reproducible"], &["--nocapture"]),
        Kind::Vm => (&["test", "--locked", "--workspace", "--test", "vm"], &["--test-threads=2"]),
        // It is no test of cargo's.
        Kind::Soak => (&[], &[]),
    }
}

/// Runs a `cargo test` and passes its lines on; whether it succeeded, and what its lines say.
fn counted(command: &mut Command, prefix: &str, to_stderr: bool) -> Result<(bool, Counted)> {
    eprintln!("$ {}", podium_image::run::line(command));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cargo")?;
    let output = child.stdout.take().context("no output")?;
    let mut counted = Counted::default();
    let mut of_failure = false;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some((passed, failed)) = result(&line) {
            counted.passed += passed;
            counted.failed += failed;
        }
        of_failure = is_of_failure(&line, of_failure);
        if of_failure {
            counted.failures.push(line.clone());
        }
        if to_stderr {
            eprintln!("{prefix}{line}");
        } else {
            writeln!(std::io::stdout(), "{prefix}{line}")?;
        }
    }
    Ok((child.wait()?.success(), counted))
}

/// Whether a line belongs to a failure: a row of the faults with its two indented lines, or what libtest repeats of a
/// failed test before its list of names, without stacks.
fn is_of_failure(line: &str, before_it: bool) -> bool {
    let ends = ["ok ", "failures:", "test ", "stack backtrace:", "Stack backtrace:"];
    name_of_failure(line).is_some() || (before_it && !ends.iter().any(|start| line.starts_with(start)))
}

/// Of what failed, when the line begins a failure.
fn name_of_failure(line: &str) -> Option<&str> {
    let of_libtest = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
    of_libtest.or_else(|| line.strip_prefix("FAILED ")).map(str::trim)
}

/// Reads `test result: ok. 18 passed; 0 failed; 0 ignored; …`.
fn result(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |name: &str| rest.split("; ").find_map(|part| part.strip_suffix(name)?.trim().parse().ok());
    Some((count(" passed")?, count(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_result_lines_are_counted() {
        let line = "test result: FAILED. 17 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.15s";
        assert_eq!(result(line), Some((17, 2)));
        assert_eq!(result("test tests::result ... ok"), None);
    }

    #[test]
    fn a_failing_run_is_told_from_a_passing_one() {
        let mut passing = Command::new("sh");
        passing.args(["-c", "echo 'test result: ok. 3 passed; 0 failed; x'"]);
        let want = Counted { passed: 3, ..Counted::default() };
        assert_eq!(counted(&mut passing, "", true).unwrap(), (true, want));
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo 'test result: FAILED. 1 passed; 2 failed; x'; exit 101"]);
        let want = Counted { passed: 1, failed: 2, ..Counted::default() };
        assert_eq!(counted(&mut failing, "", true).unwrap(), (false, want));
    }

    #[test]
    fn what_failed_is_told_again() {
        let of_faults =
            "ok     a: b\n       -> x\n       -> y\nFAILED a: c\n       -> want\n       -> is\nok     d";
        let of_libtest = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\npanicked\nwhy\nstack backtrace:\n   0: main\n\n---- b stdout ----\nno\n\nfailures:\n    a\n    b\n\ntest result: x";
        let kept = |text: &str| {
            let mut of_failure = false;
            let lines = text.lines().filter(|line| {
                of_failure = is_of_failure(line, of_failure);
                of_failure
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(kept(of_faults), "FAILED a: c\n       -> want\n       -> is");
        assert_eq!(kept(of_libtest), "---- a stdout ----\npanicked\nwhy\n---- b stdout ----\nno\n");
        let names = |text: &'static str| text.lines().filter_map(name_of_failure).collect::<Vec<_>>();
        assert_eq!(names(of_faults), ["a: c"]);
        assert_eq!(names(of_libtest), ["a", "b"]);
    }
}
