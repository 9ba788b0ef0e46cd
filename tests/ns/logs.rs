//! Services' output: in files, bounded, whole, kept.

use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use std::path::PathBuf;

const KILL: i32 = 9;
const TERM: i32 = 15;
const MIB: u64 = 1 << 20;

fn log(node: &Node, name: &str) -> String {
    std::fs::read_to_string(node.root(&format!("/var/log/podium/{name}"))).unwrap_or_default()
}

#[test]
fn what_a_service_says_is_in_its_file_and_is_kept_over_a_reboot() {
    let setup = Setup::default().script("kubelet", "say hello from the kubelet\nready\n");
    let mut node = Node::up(&setup).unwrap();
    let said = || log(&node, "kubelet.log").contains("\nhello from the kubelet\n").then_some(());
    eventually("the line", LIMIT, said).unwrap();
    node.signal(TERM).unwrap();
    node.end(LIMIT).unwrap();
    let node = node.again(&setup).unwrap();
    let twice = || (log(&node, "kubelet.log").matches("hello from the kubelet\n").count() == 2).then_some(());
    eventually("the line of the second boot", LIMIT, twice).unwrap();
    let text = log(&node, "kubelet.log");
    assert_eq!(text.matches("-- podium: boot ").count(), 2, "{text}");
    for boot in ["0", "-1"] {
        let printed = node.ctl(&["logs", "kubelet", "-b", boot]).unwrap();
        assert_eq!(printed.out.matches("hello from the kubelet\n").count(), 1, "{printed:?}");
        assert!(printed.out.starts_with("-- podium: boot "), "{printed:?}");
    }
    assert!(node.ctl(&["logs", "kubelet", "-b", "-2"]).unwrap().err.contains("holds 2 boots"));
}

#[test]
fn a_log_is_bounded_and_holds_the_newest_lines() {
    let setup = Setup::default().script("kubelet", "print 60000\nready\n");
    let node = Node::up(&setup).unwrap();
    let last = || log(&node, "kubelet.log").contains("kubelet line 000059999 ").then_some(());
    eventually("the last line", LIMIT, last).unwrap();
    let files: Vec<PathBuf> = std::fs::read_dir(node.root("/var/log/podium"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let of_kubelet = files.iter().filter(|path| path.to_string_lossy().contains("kubelet.log"));
    let sizes: Vec<u64> = of_kubelet.map(|path| path.metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 4, "{files:?}");
    assert!(sizes.iter().all(|size| *size <= MIB), "{sizes:?}");
}

#[test]
fn a_service_that_writes_goes_on_while_the_log_writer_is_killed() {
    let setup = Setup::default().script("kubelet", "ready\nuntil /fake/go\nprint 30000\nmark /fake/done\n");
    let node = Node::up(&setup).unwrap();
    node.touch("/fake/go").unwrap();
    let mut from = 0;
    for _ in 0..3 {
        let line = node.console.wait(from, "podium: log: starting, pid ", LIMIT).unwrap();
        from = line.number + 1;
        let up = node.console.wait(line.number, "podium: log: exec", LIMIT).unwrap();
        assert!(up.number > line.number);
        let pid: u32 = line.text.rsplit(' ').next().unwrap().parse().unwrap();
        node.signal_process(pid, KILL).unwrap();
    }
    eventually("all was written", LIMIT, || node.root("/fake/done").exists().then_some(())).unwrap();
    let last = || log(&node, "kubelet.log").contains("kubelet line 000029999 ").then_some(());
    eventually("the last line", LIMIT, last).unwrap();
}
