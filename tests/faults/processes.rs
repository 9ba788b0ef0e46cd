//! What befalls processes: services that are killed, that do not end, that leave; orphans; programs that cannot be
//! executed. Each comes back or is told, and takes nothing with it.

use super::support::{HELLO, SIGKILL, goes_down, serves, shown, told};
use anyhow::{Context, Result, ensure};
use podium_tests::console::Line;
use podium_tests::faults::Fault;
use podium_tests::ns::{LIMIT, Node, Setup, eventually};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let fault =
        |name, expected, run: fn() -> Result<String>| Fault::in_namespace("processes", name, expected, run);
    let killed = ["containerd", "kubelet"].map(|name| {
        let expected = "told with its signal, started again at once, up; the other is left alone";
        Fault::in_namespace("processes", format!("kill -9 of {name}"), expected, move || service_killed(name))
    });
    let helpers = ["log", "pods", "probe", "apid", "api"].map(|name| {
        let expected = "told with its signal, started again, up";
        Fault::in_namespace("processes", format!("kill -9 of {name}"), expected, move || helper_killed(name))
    });
    let programs = PROGRAMS.iter().map(|&(name, reason, spoil)| {
        let expected = format!("told with {reason:?}, tried again later and later, up once it is mended");
        Fault::in_namespace("processes", format!("exec of {name}"), expected, move || {
            unexecutable(reason, spoil)
        })
    });
    let mut faults: Vec<Fault> = killed.into_iter().chain(helpers).chain(programs).collect();
    faults.extend([
        fault(
            "kill -9 of a service whenever it is up",
            "started now, then after up to 0.2 s, 0.4 s, 0.8 s, 1.6 s; told as a crash loop, never given up",
            killed_again_and_again,
        ),
        fault(
            "kill -9 of a service 1,000 times in a row",
            "up each time; the others are left alone, and PID 1 remembers ten deaths and needs no more memory",
            thousand_kills,
        ),
        fault(
            "a service that ends at once again and again",
            "told with its code, started later and later, never given up",
            ends_at_once,
        ),
        fault(
            "a service that ignores TERM",
            "killed after its limit at power off, told; the node goes down",
            ignores_term,
        ),
        fault(
            "a daemon that forked twice and left its service",
            "ended with its service's cgroup; that of containerd stays, and ends with the node",
            daemon_that_left,
        ),
        fault("1,000 orphans at once", "all reaped, no zombie left; the node serves", thousand_orphans),
        fault("10,000 orphans in a row", "all reaped, no zombie left; the node serves", orphans_in_a_row),
        fault(
            "a service that floods its notify socket",
            "another service that is killed comes back as ever",
            flooded_socket,
        ),
    ]);
    faults
}

fn service_killed(name: &'static str) -> Result<String> {
    let other = if name == "kubelet" { "containerd" } else { "kubelet" };
    let node = Node::up(&Setup::default())?;
    let before = node.nth_start(name, 1)?;
    node.signal_process(before.pid, SIGKILL)?;
    let after = node.nth_start(name, 2)?;
    ensure!(before.pid != after.pid, "the same process {}", after.pid);
    let ended = node.wait(&format!("podium: {name}: ended, signal 9; next start now"))?;
    node.console.wait(ended.number, &format!("podium: {name}: up"), LIMIT)?;
    ensure!(node.starts(other)?.len() == 1, "{other} was started {} times", node.starts(other)?.len());
    serves(&node, &[HELLO])?;
    Ok(shown(&ended))
}

fn helper_killed(name: &'static str) -> Result<String> {
    let node = Node::up(&Setup::default())?;
    let line = node.wait(&format!("podium: {name}: starting, pid "))?;
    let pid: u32 = line.text.rsplit(' ').next().context("no pid")?.parse()?;
    node.wait(&format!("podium: {name}: up"))?;
    node.signal_process(pid, SIGKILL)?;
    let ended = node.wait(&format!("podium: {name}: ended, signal 9"))?;
    node.console.wait(ended.number, &format!("podium: {name}: up"), LIMIT)?;
    Ok(shown(&ended))
}

fn killed_again_and_again() -> Result<String> {
    let node = Node::up(&Setup::default())?;
    let mut from = 0;
    for (number, full) in [0.0, 0.2, 0.4, 0.8, 1.6].into_iter().enumerate() {
        let pid = node.nth_start("kubelet", number + 1)?.pid;
        node.console.wait(from, "podium: kubelet: up", LIMIT)?;
        node.signal_process(pid, SIGKILL)?;
        let line = node.console.wait(from, "podium: kubelet: ended, signal 9; next start ", LIMIT)?;
        waits(&line, full)?;
        from = line.number + 1;
    }
    let told = node.wait("podium: kubelet: crash loop: 5 failures in a row, the last: ended, signal 9")?;
    node.console.wait(from, "podium: kubelet: up", LIMIT)?;
    ensure!(node.starts("containerd")?.len() == 1, "containerd was started again");
    Ok(format!("later and later, up again; {}", shown(&told)))
}

/// Who dies so often is started half a minute later in the end, so after the first few each next life is asked for.
fn thousand_kills() -> Result<String> {
    const KILLS: u64 = 1000;
    // PID 1 remembers some hundred events; then nothing grows any more.
    const WARM_UP: u64 = 150;
    const SLACK_KIB: u64 = 64;
    let node = Node::up(&Setup::default())?;
    let mut lines = node.connect()?;
    let mut before = 0;
    for kill in 0..KILLS {
        if kill == WARM_UP {
            before = node.pss_anon()?;
        }
        let pid =
            lines.service("kubelet")?["pid"].as_u64().with_context(|| format!("down at kill {kill}"))?;
        node.signal_process(u32::try_from(pid)?, SIGKILL)?;
        lines.next_life("kubelet", pid).with_context(|| format!("kill {kill}"))?;
    }
    let after = node.pss_anon()?;
    ensure!(after <= before + SLACK_KIB, "PID 1 had {before} KiB and has {after}");
    let kubelet = lines.service("kubelet")?;
    let deaths = kubelet["deaths"].as_array().context("no deaths")?;
    ensure!(deaths.len() == 10 && deaths.iter().all(|death| death["signal"] == SIGKILL), "{kubelet}");
    ensure!(node.starts("containerd")?.len() == 1, "containerd was started again");
    serves(&node, &[HELLO])?;
    Ok(format!("up again {KILLS} times; PID 1 had {before} KiB and has {after}"))
}

/// The delay that a line tells is between half of the full one and all of it, to the tenth that it is told in.
fn waits(line: &Line, full: f64) -> Result<()> {
    const ROUNDING: f64 = 0.051;
    let told = line.text.rsplit("next start ").next().unwrap_or_default();
    let told = told.strip_prefix("in ").and_then(|delay| delay.strip_suffix(" s")).unwrap_or("0");
    let delay: f64 = told.parse()?;
    ensure!((full / 2.0 - ROUNDING..=full + ROUNDING).contains(&delay), "{}, and not {full} s", shown(line));
    Ok(())
}

fn ends_at_once() -> Result<String> {
    let node = Node::start(&Setup::default().script("kubelet", "exit 3\n"))?;
    let mut from = 0;
    for full in [0.0, 0.2, 0.4, 0.8] {
        let line = node.console.wait(from, "podium: kubelet: ended, code 3; next start ", LIMIT)?;
        waits(&line, full)?;
        from = line.number + 1;
    }
    ensure!(node.starts("kubelet")?.len() >= 4, "{} starts", node.starts("kubelet")?.len());
    node.script("kubelet", "ready\n")?;
    node.console.wait(from, "podium: kubelet: up", LIMIT)?;
    Ok("started later and later; up once it does not end any more".to_owned())
}

fn ignores_term() -> Result<String> {
    let mut node = Node::up(&Setup::default().script("kubelet", "ignore\nready\n"))?;
    goes_down(&mut node)?;
    let line = node.wait("podium: kubelet: still there, killed")?;
    node.wait("podium: halt: all file systems unmounted")?;
    Ok(shown(&line))
}

fn daemon_that_left() -> Result<String> {
    let setup = Setup::default().script("kubelet", "ready\ndaemon\n").script("containerd", "ready\ndaemon\n");
    let mut node = Node::up(&setup)?;
    let daemon = |name: &str| {
        let file = node.root(&format!("/fake/{name}.daemon"));
        eventually(name, LIMIT, || std::fs::read_to_string(&file).ok()?.parse::<u32>().ok())
    };
    let (of_kubelet, of_containerd) = (daemon("kubelet")?, daemon("containerd")?);
    let lives = |pid: u32| node.processes().iter().any(|process| process.pid == pid);
    for name in ["containerd", "kubelet"] {
        let pid = node.nth_start(name, 1)?.pid;
        node.signal_process(pid, SIGKILL)?;
        node.nth_start(name, 2)?;
    }
    let seen = if node.has_cgroups() {
        eventually("the end of the kubelet's daemon", LIMIT, || (!lives(of_kubelet)).then_some(()))?;
        "the kubelet's daemon ended with it, containerd's with the node"
    } else {
        "not root, so no cgroups: both daemons ended with the node"
    };
    ensure!(lives(of_containerd), "containerd's shims, and so the pods, must outlive it");
    goes_down(&mut node)?;
    Ok(seen.to_owned())
}

/// Direct children of PID 1 in a node at rest: containerd, kubelet, log, pods, and a few that come and go.
const CHILDREN: usize = 8;

fn thousand_orphans() -> Result<String> {
    let setup = Setup::default().script("containerd", "ready\norphans 1000 /fake/go\n");
    let node = Node::up(&setup)?;
    let orphans = || node.processes().iter().filter(|process| process.host_parent == node.init()).count();
    // Starting them is the test's own work, and takes long on a busy machine.
    eventually("1,000 orphans", LIMIT * 4, || (orphans() >= 1000).then_some(()))?;
    node.touch("/fake/go")?;
    all_reaped(&node)?;
    Ok("all reaped, the kubelet came back after a kill".to_owned())
}

fn orphans_in_a_row() -> Result<String> {
    /// Each is an execution of the fake, which takes a busy machine some milliseconds.
    const ROW_LIMIT: Duration = Duration::from_secs(240);
    let node = Node::up(&Setup::default().script("containerd", "ready\nrow 10000\nmark /fake/done\n"))?;
    eventually("the row's end", ROW_LIMIT, || node.root("/fake/row.done").exists().then_some(()))?;
    all_reaped(&node)?;
    Ok("all reaped, the kubelet came back after a kill".to_owned())
}

fn all_reaped(node: &Node) -> Result<()> {
    let orphans = || node.processes().iter().filter(|process| process.host_parent == node.init()).count();
    eventually("all of them reaped", LIMIT, || (orphans() <= CHILDREN).then_some(()))?;
    let zombies = || node.processes().iter().filter(|process| process.state == 'Z').count();
    eventually("no zombie is left", LIMIT, || (zombies() == 0).then_some(()))?;
    serves(node, &[HELLO])
}

/// Puts something in a program's place.
type Spoil = fn(&Path) -> Result<()>;

/// What it is, what the console says of it, how it gets so.
const PROGRAMS: [(&str, &str, Spoil); 5] = [
    ("a missing program", "No such file or directory", |_| Ok(())),
    ("a program that is not executable", "Permission denied", |program| program_of(program, b"x", 0o644)),
    ("a truncated program", "Exec format error", |program| {
        program_of(program, b"\x7fELF\x02\x01\x01", 0o755)
    }),
    ("an empty program", "Exec format error", |program| program_of(program, b"", 0o755)),
    ("a directory", "Permission denied", |program| Ok(std::fs::create_dir(program)?)),
];

fn program_of(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    std::fs::write(path, bytes)?;
    Ok(std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?)
}

fn unexecutable(reason: &str, spoil: Spoil) -> Result<String> {
    let node = Node::up(&Setup::default())?;
    let program = node.root("/usr/bin/kubelet");
    std::fs::remove_file(&program)?;
    spoil(&program)?;
    let from = node.console.mark();
    node.signal_process(node.nth_start("kubelet", 1)?.pid, SIGKILL)?;
    let start = "podium: kubelet: exec /usr/bin/kubelet: ";
    let line = told(&node, from, start, &[reason])?;
    let again = told(&node, line.number, "podium: kubelet: ended, code 125; next start ", &[])?;
    told(&node, again.number, start, &[reason])?;
    if program.is_dir() {
        std::fs::remove_dir(&program)?;
    } else if program.symlink_metadata().is_ok() {
        std::fs::remove_file(&program)?;
    }
    symlink("/usr/bin/fake", &program)?;
    node.nth_start("kubelet", 2)?;
    serves(&node, &[HELLO])?;
    Ok(shown(&line))
}

fn flooded_socket() -> Result<String> {
    let node = Node::up(&Setup::default().script("containerd", "ready\nflood 100000\n"))?;
    serves(&node, &[HELLO])?;
    Ok("the kubelet came back".to_owned())
}
