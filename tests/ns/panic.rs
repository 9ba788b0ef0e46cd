//! A panic of PID 1 itself, of the very binary that ships: reported, and the end is a reboot, whatever was asked for.

use podium_tests::build;
use podium_tests::ns::{LIMIT, Node, Setup};
use podium_tests::tamper;
use std::process::Command;

const TERM: i32 = 15;
/// A PID namespace's reboot(2) shows as SIGHUP when it was a restart; a power off would be SIGINT.
const SIGHUP: i32 = 1;

#[test]
fn a_panic_is_reported_and_reboots() {
    let mut node = Node::up(&Setup::default()).unwrap();
    tamper::fail_each_close(i32::try_from(node.init()).unwrap()).unwrap();
    // The way down lists the manifests: with that folder closing fails.
    node.signal(TERM).unwrap();
    assert_eq!(node.end(LIMIT).unwrap(), SIGHUP);
    let line = node.wait("podium: PID 1 panicked at ").unwrap();
    assert!(line.text.ends_with("; rebooting"), "{line}");
    let all = node.console.lines();
    assert!(
        !all.iter().any(|line| line.text.contains("podium: halt: power off")),
        "{}",
        node.console.tail(10)
    );
}

/// The program that ships has no tables for one, and would abort.
#[test]
fn a_backtrace_that_is_asked_for_kills_nothing() {
    let mut command = Command::new(&build::programs().unwrap().init);
    command.arg("no-such-verb").env("RUST_BACKTRACE", "1").env("RUST_LIB_BACKTRACE", "full");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said, "podium: no-such-verb: unknown verb; `init help` lists them\n");
}
