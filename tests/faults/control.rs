//! Clients of the control socket that do everything wrong, and a PID 1 that is the same afterwards.

use super::support::SIGKILL;
use anyhow::{Context, Result, ensure};
use podium_tests::faults::Fault;
use podium_tests::ns::{LIMIT, Lines, Node, Setup, eventually, is_root};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Nobody of interest.
const SOMEBODY: u32 = 65_534;
const EVENTS: &str = r#"{"version":1,"request":"events","follow":true}"#;
const LOGS: &str = r#"{"version":1,"request":"logs","service":"kubelet","follow":true}"#;
const SERVICES: &str = r#"{"version":1,"request":"services"}"#;

/// Turns of PID 1's loop, after which what has ended is out of it.
const TURNS: usize = 4;

/// What is done, what is expected, and the doing: it gives what was seen.
type Row = (&'static str, &'static str, fn(&Node) -> Result<String>);

/// After each of them the node answers, supervises, and PID 1 has one thread and as many descriptors as before.
const ROWS: &[Row] = &[
    ("10,000 connections", "at most 32 descriptors are theirs at a time", ten_thousand),
    (
        "half a line for ever, on every place",
        "each is let go after 10 s; who waited is answered",
        half_a_line,
    ),
    ("a line of 1 GB", "refused after 64 KiB, and closed", a_gigabyte),
    (
        "a client that asks and never reads",
        "it is let go; others are answered meanwhile",
        asks_and_never_reads,
    ),
    ("a follower that never reads", "it is let go; others are answered meanwhile", follows_and_never_reads),
    ("more answers at a time than are allowed", "refused with the reason, until one has ended", many_answers),
    ("more followers than are allowed", "refused with the reason; others are answered", many_followers),
    (
        "a client that dies while its config is received",
        "nothing changes, and the next one has its turn",
        dies,
    ),
    ("not root", "refused by the socket's mode, and by its credentials when that is opened", not_root),
    (
        "PID 1 has few descriptors left, then none",
        "clients are refused or wait, a killed kubelet is started again all the same",
        few_descriptors,
    ),
];

/// All of this area.
pub(super) fn faults() -> Vec<Fault> {
    let fault = |&(name, expected, act): &Row| {
        Fault::in_namespace("control", name, expected, move || {
            let node = Node::up(&Setup::default())?;
            let before = burden(&node)?;
            let seen = act(&node)?;
            unharmed(&node, before)?;
            Ok(format!("{seen}; afterwards {} descriptors as before, one thread", before.0))
        })
    };
    ROWS.iter().map(fault).collect()
}

/// How many descriptors PID 1 has, and how many threads.
fn burden(node: &Node) -> Result<(usize, usize)> {
    let count = |what: &str| -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/{what}", node.init()))?.count())
    };
    Ok((count("fd")?, count("task")?))
}

/// It answers, supervises, and has neither a thread nor a descriptor more than before.
fn unharmed(node: &Node, before: (usize, usize)) -> Result<()> {
    restarts_the_kubelet(node)?;
    eventually("an answer", LIMIT, || node.ctl(&["services"]).is_ok_and(|said| said.ok).then_some(()))?;
    eventually("as many descriptors as before", LIMIT, || (burden(node).ok()? == before).then_some(()))
        .with_context(|| format!("before {before:?}, now {:?}", burden(node)))?;
    ensure!(before.1 == 1, "{} threads", before.1);
    Ok(())
}

fn restarts_the_kubelet(node: &Node) -> Result<()> {
    let starts = node.starts("kubelet")?;
    node.signal_process(starts.last().context("no kubelet was started")?.pid, SIGKILL)?;
    node.nth_start("kubelet", starts.len() + 1).map(drop)
}

/// Everything until the end, however it comes.
fn rest(lines: &mut Lines) -> Result<String> {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match lines.stream().read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).context("it is not let go"),
        }
    }
    Ok(String::from_utf8(text)?)
}

fn ten_thousand(node: &Node) -> Result<String> {
    let before = burden(node)?.0;
    let (mut silent, mut most) = (Vec::new(), 0);
    // As many as it takes stay open; the others come and go.
    for n in 0..10_000 {
        let lines = node.connect()?;
        if n < 40 {
            silent.push(lines);
        }
        if n % 100 == 0 {
            most = most.max(burden(node)?.0.saturating_sub(before));
        }
    }
    ensure!(most <= 32, "{most} descriptors more than before");
    Ok(format!("at most {most} descriptors more than before"))
}

fn half_a_line(node: &Node) -> Result<String> {
    let mut halves = (0..32).map(|_| node.connect()).collect::<Result<Vec<_>>>()?;
    for lines in &mut halves {
        lines.stream().write_all(b"{\"version\":1,\"requ")?;
    }
    // All places are taken; this one waits until they are let go.
    let printed = node.ctl(&["services"])?;
    ensure!(printed.ok, "{printed:?}");
    let mut told = 0;
    for lines in &mut halves {
        let said = rest(lines)?;
        ensure!(said.is_empty() || said.contains("no whole line within 10 s"), "{said}");
        told += usize::from(!said.is_empty());
    }
    ensure!(told > 0, "none was told why");
    Ok(format!(
        "{told} of 32 were told \"no whole line within 10 s\", all are gone, the next one was answered"
    ))
}

fn a_gigabyte(node: &Node) -> Result<String> {
    let mut lines = node.connect()?;
    let chunk = vec![b'x'; 1 << 20];
    let taken = (0..1024).take_while(|_| lines.stream().write_all(&chunk).is_ok()).count();
    ensure!(taken < 2, "{taken} MiB of one line were taken");
    let said = rest(&mut lines)?;
    ensure!(said.contains("a request line of more than 64 KiB"), "{said}");
    Ok(said.trim_end().to_owned())
}

/// Asks for something that is an event each until `lines`' end is gone, and is answered all the while.
fn until_gone(node: &Node, before: usize, what: &str) -> Result<String> {
    ensure!(node.ctl(&["services"])?.ok, "others are not answered");
    let mut busy = node.connect()?;
    let request = r#"{"version":1,"request":"service","name":"kubelet","action":"start"}"#;
    let mut asked = 0;
    let gone = eventually(what, LIMIT * 2, || {
        for _ in 0..100 {
            let answer = busy.send(request).and_then(|()| busy.next());
            match answer {
                Ok(Some(answer)) if answer["ok"] == true => asked += 1,
                other => return Some(Err(anyhow::anyhow!("another client got {other:?}"))),
            }
        }
        // What is left beside those of before is the busy client's own.
        let now = burden(node).ok()?.0;
        (now <= before + 1).then_some(Ok(()))
    });
    gone??;
    Ok(format!("gone; another client was answered {asked} times meanwhile"))
}

fn asks_and_never_reads(node: &Node) -> Result<String> {
    let before = burden(node)?.0;
    let mut asks = node.connect()?;
    // Requests until nobody takes them any more.
    asks.stream().set_nonblocking(true)?;
    let requests = format!("{SERVICES}\n").repeat(64);
    let full = || asks.stream().write(requests.as_bytes()).is_err().then_some(());
    eventually("a full queue", LIMIT, full)?;
    until_gone(node, before, "the end of the one that asks")
}

fn follows_and_never_reads(node: &Node) -> Result<String> {
    let before = burden(node)?.0;
    let mut follows = node.connect()?;
    follows.send(EVENTS)?;
    // It gets what fits into its socket and the ring; then it is gone.
    until_gone(node, before, "the end of the follower")
}

fn many_answers(node: &Node) -> Result<String> {
    let before = burden(node)?;
    let mut jobs = (0..8).map(|_| node.ask(LOGS)).collect::<Result<Vec<_>>>()?;
    ensure!(jobs.iter().all(|(first, _)| first["ok"] == true), "{jobs:?}");
    let refused = node.ctl(&["logs", "kubelet"])?;
    ensure!(refused.err.contains("too many answers are under way"), "{refused:?}");
    // That the refused client is gone PID 1 has noticed some turns later, and each answer to this one takes a turn.
    let (_, mut witness) = node.ask(SERVICES)?;
    for _ in 0..TURNS {
        witness.send(SERVICES)?;
        witness.next()?.context("the witness was let go")?;
    }
    let (now, beside) = (burden(node)?, (before.0 + 1, before.1));
    ensure!(now == beside, "PID 1 keeps something of a job: {beside:?} with the witness, now {now:?}");
    drop(witness);
    jobs.clear();
    let answered = || node.ctl(&["logs", "kubelet"]).is_ok_and(|said| said.ok).then_some(());
    eventually("an answer", LIMIT, answered)?;
    Ok(format!("8 are answered, {}", refused.err.trim_end()))
}

fn many_followers(node: &Node) -> Result<String> {
    let followers = (0..16).map(|_| node.ask(EVENTS)).collect::<Result<Vec<_>>>()?;
    ensure!(followers.iter().all(|(first, _)| first["ok"] == true), "{followers:?}");
    let refused = node.ask(EVENTS)?.0;
    let error = refused["error"].as_str().unwrap_or_default();
    ensure!(error.contains("too many clients follow"), "{refused}");
    ensure!(node.ctl(&["services"])?.ok, "others are not answered");
    Ok(format!("16 follow, {error}"))
}

fn dies(node: &Node) -> Result<String> {
    let apply = r#"{"version":1,"request":"config apply"}"#;
    let (first, mut lines) = node.ask(apply)?;
    ensure!(first["send"] == true, "{first}");
    lines.stream().write_all(b"version: v1alpha1\nmachine: {pods: []}\n")?;
    // Both halves go; one that has sent all closes only its own.
    drop(lines);
    let (first, mut lines) = node.ask(apply)?;
    ensure!(first["send"] == true, "{first}");
    // No service restarts for it.
    lines.stream().write_all(b"version: v1alpha1\nmachine: {pods: []} # second\n")?;
    lines.stream().shutdown(Shutdown::Write)?;
    let last = lines.until(|line| line.get("result").is_some() || line["ok"] == false)?;
    ensure!(last["ok"] == true && last["generation"] == 1, "the second config: {last}");
    Ok("the first was not taken, the second is generation 1".to_owned())
}

/// `init ctl version` as somebody else: what it says on stderr.
fn as_somebody(node: &Node) -> Result<String> {
    // Both are handed over open, as descriptors 0 and 1: the way to them is root's alone.
    let done = Command::new("/proc/self/fd/1")
        .args(["ctl", "--socket", "/proc/self/fd/0/init.sock", "version"])
        .stdin(File::open(node.path("/run/podium"))?)
        .stdout(File::open(node.path("/usr/sbin/init"))?)
        .uid(SOMEBODY)
        .gid(SOMEBODY)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)?;
    ensure!(!done.status.success(), "it was answered");
    Ok(String::from_utf8(done.stderr)?)
}

fn not_root(node: &Node) -> Result<String> {
    ensure!(is_root(), "run this as root: nobody else's uid can be had");
    let closed = as_somebody(node)?;
    ensure!(closed.contains("Permission denied") && closed.contains("run it as root"), "{closed}");
    // Also if somebody has opened it for all.
    std::fs::set_permissions(node.control_socket(), PermissionsExt::from_mode(0o666))?;
    let opened = as_somebody(node)?;
    ensure!(opened.contains("only root may ask here; run it as root"), "{opened}");
    Ok(format!("{}, then {}", closed.trim_end(), opened.trim_end()))
}

fn few_descriptors(node: &Node) -> Result<String> {
    let open = u64::try_from(burden(node)?.0)?;
    // Some are left, and those are for services.
    node.limit_files(open + 8)?;
    let printed = node.ctl(&["services"])?;
    ensure!(printed.err.contains("no descriptor to spare"), "{printed:?}");
    // None are left: the client waits, and PID 1 neither spins nor ends.
    node.limit_files(3)?;
    let mut waiting = node.connect()?;
    restarts_the_kubelet(node)?;
    node.limit_files(1024)?;
    waiting.send(r#"{"version":1,"request":"version"}"#)?;
    let answer = waiting.next()?.context("no answer")?;
    ensure!(answer["ok"] == true, "{answer}");
    Ok(format!("{}; one that waited is answered once there are some", printed.err.trim_end()))
}
