//! The watchdog of a node whose device is a FIFO: what PID 1 feeds it comes out at the other end.

use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use std::fs::File;
use std::io::Read;
use std::path::Path;

const DEVICE: &str = "/fake/watchdog";
const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

fn make_fifo(path: &Path) -> anyhow::Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

fn setup(word: &str) -> Setup {
    let mut setup = Setup::default().word(word);
    setup.prepare.push((DEVICE, make_fifo));
    setup
}

/// What waits in the FIFO.
fn fed(device: &mut File) -> Option<usize> {
    device.read(&mut [0; 64]).ok().filter(|count| *count > 0)
}

fn device(node: &Node) -> File {
    open(node.root(DEVICE), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap().into()
}

#[test]
fn it_is_fed_while_the_loop_turns_and_starves_while_it_does_not() {
    let node = Node::up(&setup("podium.watchdog=/fake/watchdog,3s")).unwrap();
    node.wait("podium: watchdog: /fake/watchdog (unknown) resets after 3 s").unwrap();
    let mut device = device(&node);
    for _ in 0..2 {
        eventually("food", LIMIT, || fed(&mut device)).unwrap();
    }
    node.signal(SIGSTOP).unwrap();
    let is_stopped = || node.processes().iter().find(|one| one.pid == 1).is_some_and(|one| one.state == 'T');
    eventually("PID 1 stopped", LIMIT, || is_stopped().then_some(())).unwrap();
    while fed(&mut device).is_some() {}
    // As long as it takes another program to be late by two feeds.
    let clock = std::time::Instant::now();
    eventually("two intervals", LIMIT, || (clock.elapsed().as_secs() >= 3).then_some(())).unwrap();
    assert_eq!(fed(&mut device), None, "who feeds it, if not the loop?");
    node.signal(SIGCONT).unwrap();
    eventually("food again", LIMIT, || fed(&mut device)).unwrap();
}

#[test]
fn it_is_fed_on_the_way_down() {
    let setup = setup("podium.watchdog=/fake/watchdog,3s").script("containerd", "ignore\nready\n");
    let mut node = Node::up(&setup).unwrap();
    let mut device = device(&node);
    eventually("food", LIMIT, || fed(&mut device)).unwrap();
    node.signal(15).unwrap();
    node.wait("podium: containerd: stopping").unwrap();
    while fed(&mut device).is_some() {}
    eventually("food", LIMIT, || fed(&mut device)).unwrap();
    // Not the letter that would switch it off.
    node.end(LIMIT * 2).unwrap();
    let mut rest = Vec::new();
    device.read_to_end(&mut rest).unwrap();
    assert!(!rest.contains(&b'V'), "{rest:?}");
}

#[test]
fn a_node_that_is_told_off_uses_none() {
    let node = Node::up(&setup("podium.watchdog=off")).unwrap();
    assert!(!node.console.lines().iter().any(|line| line.text.starts_with("podium: watchdog")));
}
