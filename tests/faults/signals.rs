//! Every signal to PID 1: those with a meaning do what they mean, the others nothing.

use super::support::{HELLO, SIGHUP, SIGINT, SIGKILL, SIGSTOP, serves, shown};
use anyhow::{Result, ensure};
use podium_tests::faults::Fault;
use podium_tests::ns::{LIMIT, Node, Setup};
use std::process::Command;

/// What somebody may send who wants PID 1 to fail: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS.
const OF_FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// Signal, its name, what it asks for, and how the namespace's end shows.
const WITH_A_MEANING: [(i32, &str, &str, i32); 6] = [
    (2, "INT", "reboot, asked by Ctrl-Alt-Del", SIGHUP),
    (15, "TERM", "power off, asked by signal TERM", SIGINT),
    (30, "PWR", "power off, asked by signal PWR", SIGINT),
    (37, "RTMIN+3", "halt, asked by signal RTMIN+3", SIGINT),
    (38, "RTMIN+4", "power off, asked by signal RTMIN+4", SIGINT),
    (39, "RTMIN+5", "reboot, asked by signal RTMIN+5", SIGHUP),
];

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let fault =
        |name, expected, run: fn() -> Result<String>| Fault::in_namespace("signals", name, expected, run);
    let nothing = "nothing: PID 1 reaps and starts as before";
    let mut faults = vec![
        fault("each of 1 to 64 without a meaning, from outside", nothing, from_outside),
        fault("each of 1 to 31 without a meaning, from inside by root", nothing, from_inside),
        fault("ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS sent by root", nothing, of_faults),
        fault("10,000 real-time signals at once", nothing, storm),
    ];
    faults.extend(WITH_A_MEANING.iter().map(|&(signal, name, asked, end)| {
        let expected = format!("{asked}; the node goes down in order and ends so");
        Fault::in_namespace("signals", name, expected, move || means(signal, asked, end))
    }));
    faults
}

fn has_a_meaning(signal: i32) -> bool {
    WITH_A_MEANING.iter().any(|(number, ..)| *number == signal)
}

fn from_outside() -> Result<String> {
    let node = Node::up(&Setup::default())?;
    // From the parent namespace the kernel lets KILL and STOP through to a PID 1; nothing can be done about those.
    let signals = (1..=64).filter(|signal| !has_a_meaning(*signal) && ![SIGKILL, SIGSTOP].contains(signal));
    let sent = signals.map(|signal| node.signal(signal)).collect::<Result<Vec<_>>>()?.len();
    still_supervises(&node)?;
    Ok(format!("{sent} sent, none had an effect"))
}

fn from_inside() -> Result<String> {
    let standard: Vec<i32> = (1..=31).filter(|signal| !has_a_meaning(*signal)).collect();
    let node = Node::up(&sending(&standard))?;
    still_supervises(&node)?;
    Ok(format!("{} sent, none had an effect", standard.len()))
}

fn of_faults() -> Result<String> {
    let node = Node::up(&sending(&OF_FAULTS))?;
    for signal in OF_FAULTS {
        node.signal(signal)?;
    }
    still_supervises(&node)?;
    Ok(format!("{} sent from inside and from outside, none had an effect", OF_FAULTS.len()))
}

/// A containerd that sends these to PID 1.
fn sending(signals: &[i32]) -> Setup {
    let script: String = signals.iter().map(|signal| format!("signal 1 {signal}\n")).collect();
    Setup::default().script("containerd", &format!("{script}ready\n"))
}

/// Real-time signals queue, so PID 1 reads each of them.
fn storm() -> Result<String> {
    const COUNT: usize = 10_000;
    let node = Node::up(&Setup::default())?;
    let init = node.init().to_string();
    let status = Command::new("kill").args(["-s", "50"]).args(vec![init; COUNT]).status()?;
    ensure!(status.success(), "kill(1): {status}");
    still_supervises(&node)?;
    Ok(format!("{COUNT} sent, none had an effect"))
}

fn still_supervises(node: &Node) -> Result<()> {
    serves(node, &[HELLO])?;
    let shutdown = node.console.lines().into_iter().find(|line| line.text.contains("shutdown"));
    ensure!(shutdown.is_none(), "{shutdown:?}");
    Ok(())
}

fn means(signal: i32, asked: &str, end: i32) -> Result<String> {
    let mut node = Node::up(&Setup::default())?;
    node.signal(signal)?;
    let ended = node.end(LIMIT)?;
    ensure!(ended == end, "the namespace ended by signal {ended} and not {end}");
    let line = node.wait(&format!("podium: shutdown: {asked}"))?;
    let how = asked.split(',').next().unwrap_or_default();
    // It may still be on its way when the node has ended.
    let last = node.wait(&format!("podium: halt: {how}"))?;
    ensure!(node.console.lines().last() == Some(&last), "{}", node.console.tail(3));
    Ok(shown(&line))
}
