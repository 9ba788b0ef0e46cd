//! The fuzz targets: a function each, from bytes that anybody may have sent to assertions that hold for all of them.
//!
//! A further one is a function here and its line in [`TARGETS`], a file of its name in `fuzz_targets/` with its
//! `[[bin]]`, and at least one seed in `seeds/<name>/`; a test tells which of these is missing.

use podium_init::config::{self, MAX_PROBLEMS, Outcome, Problem};
use podium_init::manifests::{self, MAX_MANIFEST, Manifest, is_ours};
use podium_init::superblock::Content;
use podium_init::{base64, cmdline, control, crilog, input, modules, notices, superblock, uevent};
use serde_json::Value;
use std::collections::BTreeSet;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, everywhere.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target { name: "cmdline", run: cmdline },
    Target { name: "config", run: config },
    Target { name: "pod", run: pod },
    Target { name: "control", run: control },
    Target { name: "crilog", run: crilog },
    Target { name: "boot", run: boot },
];

/// The kernel command line, which anybody at the boot loader writes.
pub fn cmdline(input: &[u8]) {
    let read = cmdline::parse(input);
    assert_eq!(read, cmdline::parse(input), "the same text is read in the same way");
    assert!(!read.root.is_empty() && read.root_wait.as_secs() <= 3600);
    assert!(read.config_inline.as_ref().is_none_or(|text| !text.is_empty()));
    match &read.config {
        Some(cmdline::Location::Path(path)) => assert!(path.starts_with('/')),
        Some(cmdline::Location::Label { label, path }) => assert!(!label.is_empty() && path.starts_with('/')),
        Some(cmdline::Location::Nowhere) | None => {}
    }
    assert!(read.problems.len() <= cmdline::MAX_LENGTH, "a problem a word at most");
    told(&read.problems);
    modules::blacklist(input);
    modules::parameters(input, "kvm");
}

/// A machine config, from anywhere.
pub fn config(input: &[u8]) {
    checked(&config::parse(input));
}

/// A pod of a machine config: the input is what stands behind the dash of the list.
pub fn pod(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let indented = text.replace('\n', "\n      ");
    let outcome =
        config::parse(format!("version: v1alpha1\nmachine:\n  pods:\n    - {indented}\n").as_bytes());
    checked(&outcome);
    for manifest in &outcome.manifests {
        let written: Value = serde_json::from_str(&manifest.bytes).expect("a manifest is JSON");
        assert!(
            !manifests::breached(&written).contains("schema"),
            "what is emitted is a pod: {}",
            manifest.bytes
        );
    }
}

/// The longest refusal: it says again what was sent, and what waits for a client to read it is bounded.
const REFUSAL_MAX: usize = 1024;

/// A line of the control socket, from anybody who is let in.
pub fn control(input: &[u8]) {
    match control::parse(input) {
        Ok(request) => {
            let line = request.to_line();
            let (text, end) = line.split_at(line.len() - 1);
            assert!(end == "\n" && !text.contains(char::is_control), "{line:?}");
            assert_eq!(control::parse(text.as_bytes()), Ok(request), "what is asked again is the same");
        }
        Err(refusal) => {
            assert!(!refusal.error.is_empty());
            let said = refusal.to_string();
            assert!(!said.contains(char::is_control), "{said:?}");
            assert!(said.len() <= REFUSAL_MAX, "{} bytes: {said:.200}", said.len());
            let answer = control::refusal(&refusal);
            let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
            assert_eq!((&answer["ok"], &answer["error"]), (&false.into(), &refusal.error.into()));
        }
    }
}

/// A line of a container's log.
pub fn crilog(input: &[u8]) {
    let Some(line) = crilog::parse(input) else { return };
    assert!(line.time.is_ascii() && line.time.len() <= 35, "{}", line.time);
    assert!(!line.text.contains(&b'\n') && line.text.len() < input.len());
    let tag = if line.whole { "F" } else { "P" };
    let mut again = format!("{} {} {tag} ", line.time, line.stream.name()).into_bytes();
    again.extend_from_slice(line.text);
    assert_eq!(crilog::parse(&again), Some(line), "a line written again reads the same");
}

/// What a machine says while it boots: the first byte tells which of them it is.
pub fn boot(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 6 {
        0 => {
            if let Ok(bytes) = base64::decode(rest) {
                assert!(bytes.len() <= rest.len() / 4 * 3 + 3);
            }
        }
        1 => {
            let content = superblock::identify(rest);
            assert!(content.label().len() <= 3 * 32, "a label of 32 bytes, each three when it is no text");
            assert_eq!(
                content.kind().is_none(),
                matches!(content, Content::Blank | Content::BeingMade | Content::Unknown)
            );
        }
        2 => {
            if let Some(event) = uevent::Uevent::parse(rest) {
                assert!(!event.action.is_empty() && !event.path.is_empty());
                event.wants_driver();
                event.new_event_device();
                event.is_new_card();
            }
        }
        3 => assert!(notices::parse(rest).count() <= rest.len() + 1),
        4 => {
            input::is_power_pressed(rest);
        }
        _ => plan_of_modules(rest),
    }
}

/// depmod's tables and the requests, in this order, each ended by a NUL.
fn plan_of_modules(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let mut parts = text.split('\0').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let tables = modules::Tables { dep: part(), alias: part(), softdep: part(), builtin: part() };
    let known = modules::Known { loaded: modules::loaded(&part()), blacklist: BTreeSet::new() };
    let requests = part();
    let plan = modules::plan(&tables, requests.split_whitespace(), &known);
    let names: BTreeSet<_> = plan.load.iter().map(|module| &module.name).collect();
    assert_eq!(names.len(), plan.load.len(), "each module once");
    assert!(names.iter().all(|name| !known.loaded.contains(*name)), "what is loaded is not loaded again");
}

/// What holds of every outcome of a config.
fn checked(outcome: &Outcome) {
    assert!(outcome.problems.len() <= MAX_PROBLEMS + 1, "{} problems", outcome.problems.len());
    told(&outcome.problems);
    let stops = outcome.problems.iter().any(Problem::stops_config);
    assert_eq!(outcome.config.is_none(), stops, "a config is refused for a reason, and only then");
    let json = serde_json::to_string(outcome).expect("an outcome is JSON");
    assert_eq!(&serde_json::from_str::<Outcome>(&json).expect("which reads"), outcome);
    let files: BTreeSet<_> = outcome.manifests.iter().map(|manifest| &manifest.file).collect();
    assert_eq!(files.len(), outcome.manifests.len(), "a file each");
    outcome.manifests.iter().for_each(emitted);
}

/// A manifest that is emitted reads as what was meant, in JSON and in YAML, and is emitted again as it is.
fn emitted(manifest: &Manifest) {
    assert!(is_ours(&manifest.file) && !manifest.file.contains('/') && manifest.file.len() < 200);
    assert!(manifest.bytes.len() <= MAX_MANIFEST);
    let json: Value = serde_json::from_str(&manifest.bytes).expect("a manifest is JSON");
    let yaml: Value = serde_yaml::from_str(&manifest.bytes).expect("a manifest is YAML");
    assert_eq!(json, yaml, "JSON and YAML readers see the same");
    let (again, _) = manifests::plan(&[json], &|_| None);
    assert_eq!(again.as_slice(), std::slice::from_ref(manifest), "a second pass changes nothing");
}

/// Each problem is one line that a console can show.
fn told(problems: &[Problem]) {
    for problem in problems {
        let line = problem.to_string();
        assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
        assert!(problem.line != Some(0) && problem.column != Some(0), "lines and columns begin at 1");
    }
}
