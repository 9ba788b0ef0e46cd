//! Measures the init that it runs under, as one of its services: see `podium_tests::gauge` and `cargo xtask bench peers`.
//!
//! Nothing is written to the console before the end, for a serial line costs time that is nobody's: all stamps are those
//! of the kernel's own log, which is read here. It needs nothing but /dev/kmsg; /proc it mounts if the init does not.

#[path = "gauge/brood.rs"]
mod brood;

use anyhow::{Context, Result, ensure};
use podium_tests::gauge::{
    BETWEEN_KILLS_SECONDS, FAILED, IDLE_SECONDS, MEASURED, Measured, ORPHANS, field, record,
};
use rustix::mount::MountFlags;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// After this everything that belongs to a start is over: Podium's own limits for it are 60 s.
const SETTLED: Duration = Duration::from_secs(65);
const KILLS: usize = 5;
/// How the service that is killed is called under the several inits.
const KILLED: [&str; 3] = ["probe", "run", "containerd"];
/// More than a restart takes. Nothing is read meanwhile: whoever waits for the log is woken by each line of it, and runs
/// before the service on the one processor.
const RESTARTED: Duration = Duration::from_secs(2);
/// Before the orphans end: each waits for it by then.
const PAUSE: Duration = Duration::from_secs(5);
/// How often the next orphan that is still there is looked at: half a percent of what is measured.
const LOOK: Duration = Duration::from_micros(400);

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("brood") {
        return brood::brood(ORPHANS);
    }
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        UnixDatagram::unbound()?.send_to(b"READY=1", socket)?;
    }
    let line = match measure() {
        Ok(measured) => format!("{MEASURED}{}", serde_json::to_string(&measured)?),
        Err(error) => format!("{FAILED}{error:#}"),
    };
    // The highest priority is shown on the console whatever its level is.
    say(&format!("<0>{line}"))?;
    loop {
        thread::park();
    }
}

fn measure() -> Result<Measured> {
    if !Path::new("/proc/self").exists() {
        fs::create_dir_all("/proc")?;
        rustix::mount::mount("proc", "/proc", "proc", MountFlags::empty(), None).context("mount /proc")?;
    }
    let mut log = Log(File::open("/dev/kmsg").context("/dev/kmsg")?);
    let (executed, _) = log.wait(|text| text.starts_with("Run ") && text.ends_with(" as init process"))?;
    let (first, _) = log.wait(|text| text.starts_with("probe: up "))?;
    let exec_to_service_ms = milliseconds(first - executed);
    thread::sleep(SETTLED);

    let pss_anon_kib = field(&rollup(1)?, "Pss_Anon")?;
    let inits = processes_of_init()?;
    let pss_kib = inits.iter().map(|&pid| field(&rollup(pid)?, "Pss")).sum::<Result<u64>>()?;
    let idle_wakeups = idle_wakeups()?;
    let mut restarts_ms = Vec::new();
    for _ in 0..KILLS {
        restarts_ms.push(restart(&mut log)?);
    }
    let reap_1000_ms = orphans()?;
    Ok(Measured {
        exec_to_service_ms,
        restarts_ms,
        reap_1000_ms,
        pss_anon_kib,
        pss_kib,
        processes: inits.len(),
        idle_wakeups,
    })
}

/// The kernel's log, record by record.
struct Log(File);

impl Log {
    /// The next record whose text fits, by stamp and text; waits for it as long as it takes.
    fn wait(&mut self, fits: impl Fn(&str) -> bool) -> Result<(u64, String)> {
        let mut buffer = [0; 8192];
        loop {
            let length = match self.0.read(&mut buffer) {
                Ok(length) => length,
                // It was overwritten before we came to it.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => continue,
                Err(error) => return Err(error).context("/dev/kmsg"),
            };
            let raw = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if let Some((stamp, text)) = record(&raw)
                && fits(text)
            {
                return Ok((stamp, text.to_owned()));
            }
        }
    }
}

fn say(line: &str) -> Result<()> {
    let mut log = fs::OpenOptions::new().write(true).open("/dev/kmsg")?;
    // Without its end the kernel keeps a line from readers and console until the next one: it might go on.
    log.write_all(format!("{line}\n").as_bytes()).context("/dev/kmsg")
}

fn milliseconds(microseconds: u64) -> f64 {
    f64::from(u32::try_from(microseconds).unwrap_or(u32::MAX)) / 1000.0
}

fn rollup(pid: u32) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).with_context(|| format!("memory of {pid}"))
}

/// Every process but the kernel's threads, the probes and ourselves.
fn processes_of_init() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // A kernel thread has no memory of its own.
        let is_program =
            fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).is_ok_and(|text| !text.is_empty());
        if is_program && pid != std::process::id() && name(pid).is_none() {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What a probe is called; `None` for what is none.
fn name(pid: u32) -> Option<String> {
    let program = fs::metadata(format!("/proc/{pid}/exe")).ok()?.len();
    if program != fs::metadata(PROBE).ok()?.len() {
        return None;
    }
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = String::from_utf8_lossy(words.split(|byte| *byte == 0).next()?).into_owned();
    first.rsplit('/').next().map(str::to_owned)
}

/// Where every machine has the probe, whatever else it is called there.
const PROBE: &str = "/sbin/probe";

fn idle_wakeups() -> Result<u64> {
    let slept = || field(&fs::read_to_string("/proc/1/status")?, "voluntary_ctxt_switches");
    let before = slept()?;
    thread::sleep(Duration::from_secs(IDLE_SECONDS));
    Ok(slept()? - before)
}

/// Kills the service once and waits for its next life.
fn restart(log: &mut Log) -> Result<f64> {
    thread::sleep(Duration::from_secs(BETWEEN_KILLS_SECONDS));
    let pids =
        fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let is_it = |pid: &u32| name(*pid).is_some_and(|name| KILLED.contains(&name.as_str()));
    let pid = pids.into_iter().find(is_it).context("no service to kill")?;
    let process = Pid::from_raw(i32::try_from(pid)?).context("no process")?;
    say("gauge: kill")?;
    kill_process(process, Signal::KILL)?;
    thread::sleep(RESTARTED);
    let (killed, _) = log.wait(|text| text == "gauge: kill")?;
    let again = |text: &str| {
        let mut words = text.strip_prefix("probe: up ").unwrap_or_default().split(' ');
        words.next().is_some_and(|name| KILLED.contains(&name))
    };
    Ok(milliseconds(log.wait(again)?.0 - killed))
}

/// Lets all orphans end at once; milliseconds until the last one is no zombie any more.
fn orphans() -> Result<f64> {
    let (reader, writer) = io::pipe()?;
    let mut parent = Command::new("/proc/self/exe")
        .arg("brood")
        .stdin(reader)
        .stdout(Stdio::piped())
        .spawn()
        .context("brood")?;
    let listed = parent.stdout.take().context("no output")?;
    let pids = BufReader::new(listed).lines().take(ORPHANS).map(|line| {
        let pid = line?.parse::<i32>()?;
        Pid::from_raw(pid).context("no process")
    });
    let pids = pids.collect::<Result<Vec<Pid>>>()?;
    ensure!(pids.len() == ORPHANS, "{} orphans of {ORPHANS} were started", pids.len());
    parent.wait()?;
    thread::sleep(PAUSE);
    let since = Instant::now();
    drop(writer);
    for pid in pids {
        while test_kill_process(pid).is_ok() {
            thread::sleep(LOOK);
        }
    }
    Ok(since.elapsed().as_secs_f64() * 1000.0)
}
