//! Words that a boot loader or a container's runtime hands over: too many, unbalanced, unknown.

use super::support::{HELLO, serves, shown, told};
use anyhow::Result;
use podium_tests::faults::Fault;
use podium_tests::inline;
use podium_tests::ns::{Node, Setup};

const SAID: &str = "podium: kernel command line: ";
/// As long as a Linux port lets a command line be.
const LONGEST: usize = 4096;

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let fault =
        |name, expected, run: fn() -> Result<String>| Fault::in_namespace("boot", name, expected, run);
    let mut faults = vec![
        fault("4 KiB of words, the last one ours", "all are read, the last one is obeyed", full),
        fault(
            "a byte more than 4 KiB",
            "told that it seems to be cut off; what came before is obeyed",
            too_long,
        ),
        fault("1 MiB of words", "told that it seems to be cut off; the node serves", far_too_long),
    ];
    faults.extend(WORDS.iter().map(|&(name, words, parts)| {
        let expected = format!("told with {parts:?}; the default holds and the node serves");
        Fault::in_namespace("boot", name, expected, move || is_told(words, parts))
    }));
    faults
}

/// What is wrong, PID 1's words, what the console's line about it holds.
const WORDS: &[(&str, &str, &[&str])] = &[
    (
        "an unknown word",
        "podium.confg=/a",
        &["podium.confg: warning: unknown word, did you mean podium.config?"],
    ),
    ("a word without a value", "podium.config=", &["podium.config: warning: has no value"]),
    (
        "a word given twice",
        "podium.root=A podium.root=B",
        &["podium.root", "more than once, the last one is used"],
    ),
    ("a path that climbs", "podium.config=/a/../b", &["podium.config", "is no place"]),
    ("a number out of range", "podium.root_wait=3601", &["podium.root_wait", "out of range"]),
    ("words after --", "-- podium.config=/a", &["podium.config", "where the kernel's words have ended"]),
    (
        "a quote that is never closed",
        "podium.config=\"/no such quiet podium.root=B",
        &["config from kernel command line (/no such quiet podium.root=B)", "No such file"],
    ),
];

fn is_told(words: &str, parts: &[&str]) -> Result<String> {
    let node = Node::up(&Setup::default().word(words))?;
    let line = node.console.wait_for(0, &format!("{parts:?}"), podium_tests::ns::LIMIT, |line| {
        line.text.starts_with("podium: ") && parts.iter().all(|part| line.text.contains(part))
    })?;
    serves(&node, &[HELLO])?;
    Ok(shown(&line))
}

/// Words that mean nothing, `length` bytes in all with what follows.
fn filled(length: usize, last: &str) -> String {
    let room = length - last.len() - 1;
    let mut words = "quiet ".repeat(room / 6);
    words += &"q".repeat(room - words.len());
    format!("{words} {last}")
}

fn inline_config() -> String {
    inline::plain(b"version: v1alpha1\nmachine: {}\n")
}

fn full() -> Result<String> {
    let words = filled(LONGEST, &inline_config());
    let node = Node::up(&Setup::default().word(&words))?;
    let line = told(&node, 0, "podium: config from kernel command line (inline): 0 pods", &[])?;
    serves(&node, &[])?;
    Ok(format!("{} bytes: {}", words.len(), shown(&line)))
}

fn too_long() -> Result<String> {
    let words = filled(LONGEST - 1, &inline_config()) + " x";
    let node = Node::up(&Setup::default().word(&words))?;
    let line = told(&node, 0, SAID, &["4097 bytes long and seems to be cut off", "podium.config=LABEL="])?;
    told(&node, 0, "podium: config from kernel command line (inline): 0 pods", &[])?;
    serves(&node, &[])?;
    Ok(shown(&line))
}

/// One argument may have 128 KiB.
fn far_too_long() -> Result<String> {
    let words = vec![filled(64 << 10, "quiet"); 16];
    let node = Node::up(&Setup { words, ..Setup::default() })?;
    let line = told(&node, 0, SAID, &["seems to be cut off"])?;
    serves(&node, &[HELLO])?;
    Ok(shown(&line))
}
