//! `bench api`: the network API under load, and PID 1 beside it, on loopback of this machine.
//!
//! A node in namespaces with the real PID 1 and the real apid, as they are in an image; containerd and the kubelet are
//! fakes. The load is an example program of podiumctl's, in the node's network; PID 1 is asked from outside meanwhile.

use crate::{doctor, image, operate, say};
use anyhow::{Context, Result, ensure};
use clap::Args;
use podium_image::run;
use podium_tests::disk::temporary_folder;
use podium_tests::ns::{Node, Process, Setup, is_root};
use podium_tests::operator::PORT;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Clients that watch the services.
const WATCHERS: usize = 200;
/// Calls of ServiceList a second.
const RATE: u32 = 1000;
/// The log that is followed meanwhile.
const LOG_BYTES: usize = 1 << 30;
/// Between two questions to PID 1.
const PAUSE: Duration = Duration::from_millis(10);
/// `memory.max` of the service that listens.
const MEMORY_KIB: u64 = 64 * 1024;
/// Where its log would be, were it a service.
const LOG: &str = "bulk";

/// Measure the API: 200 watchers, 1,000 calls a second, a log of 1 GiB that is followed (release build, as root).
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Fail when an aim is missed; without it the table says MISSED
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// What the load saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Load {
    calls_a_second: f64,
    list_p50_ms: f64,
    list_p99_ms: f64,
    list_max_ms: f64,
    log_bytes: u64,
    log_ms: f64,
}

/// What was seen of the node meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Seen {
    #[serde(flatten)]
    load: Load,
    watchers: usize,
    /// The most that the process that listens had.
    api_peak_kib: u64,
    /// And the one that reads the logs.
    serve_peak_kib: u64,
    init_p50_ms: f64,
    init_p99_ms: f64,
    init_max_ms: f64,
}

/// Runs the measurement.
///
/// # Errors
/// It did not build, or the node sent a client away; or, when it is asked for, an aim was missed.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    doctor::ensure()?;
    ensure!(is_root(), "the API's service is another user's: run this as root");
    let copies = BTreeMap::from([
        ("/usr/sbin/init", image::static_binary("podium-init", "init")?),
        ("/usr/bin/apid", image::static_binary("podium-apid", "apid")?),
    ]);
    let load = load_program()?;
    let keys = temporary_folder()?;
    let talosconfig = secrets(keys.path())?;
    let config = fs::read(keys.path().join("machineconfig.yaml"))?;
    let setup = Setup { copies, ..Setup::default() }.config(&config);
    let node = say::phase("starting a node", || Node::up(&setup))?;
    say::phase("writing a log of 1 GiB", || write_log(&node.path("/var/log/podium/bulk.log")))?;
    let seen = say::phase("load", || measure(&node, &load, &talosconfig))
        .map_err(|error| node.with_console(&error))?;
    if arguments.json {
        say::json(&seen)?;
    } else {
        print!("{}", table(&seen));
    }
    let missed: Vec<&str> = aims(&seen).into_iter().filter(|(_, met)| !met).map(|(name, _)| name).collect();
    ensure!(!arguments.strict || missed.is_empty(), "aims missed: {}", missed.join(", "));
    Ok(())
}

fn load_program() -> Result<PathBuf> {
    let mut cargo = crate::cargo();
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "podium-podiumctl",
        "--example",
        "bench_api",
    ]);
    run::loud(&mut cargo)?;
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).context("our own place")?;
    Ok(target.join("release/examples/bench_api"))
}

/// A machine config with a CA, and a talosconfig; the path of the latter.
fn secrets(folder: &Path) -> Result<PathBuf> {
    let mut command = Command::new(operate::podiumctl()?);
    command.args(["gen", "secrets", "--endpoints", "127.0.0.1", "-o"]).arg(folder);
    run::capture(&mut command)?;
    Ok(folder.join("talosconfig"))
}

fn write_log(path: &Path) -> Result<()> {
    let mut file = fs::File::create(path).with_context(|| path.display().to_string())?;
    let lines =
        b"I1125 04:00:00.000000 a line of a log, as long as those of a kubelet are: about a hundred bytes\n";
    let piece = lines.repeat((1 << 20) / lines.len() + 1);
    for _ in 0..LOG_BYTES / piece.len() + 1 {
        file.write_all(&piece)?;
    }
    Ok(())
}

fn measure(node: &Node, load: &Path, talosconfig: &Path) -> Result<Seen> {
    node.wait("podium: api: up")?;
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", node.init())).arg(load).arg(talosconfig);
    let address = format!("127.0.0.1:{PORT}");
    command.args([&address, &WATCHERS.to_string(), &RATE.to_string(), LOG]);
    eprintln!("$ {}", run::line(&command));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("nsenter")?;
    let mut waits = Vec::new();
    while child.try_wait()?.is_none() {
        let since = Instant::now();
        node.ask(r#"{"version":1,"request":"version"}"#)?;
        waits.push(since.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(PAUSE);
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the load: {}", output.status);
    let load: Load = serde_json::from_slice(&output.stdout).context("what the load printed")?;
    waits.sort_by(f64::total_cmp);
    let at = |part: usize| waits.get((waits.len() - 1) * part / 1000).copied().context("PID 1 was not asked");
    let peak = |verb: &str| {
        let is = |process: &&Process| {
            let argv = fs::read(format!("/proc/{}/cmdline", process.host_pid)).unwrap_or_default();
            argv.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
        };
        let processes = node.processes();
        let process = processes.iter().filter(|process| process.name == "apid").find(is);
        peak_kib(process.with_context(|| format!("apid {verb} is gone"))?.host_pid)
    };
    Ok(Seen {
        load,
        watchers: WATCHERS,
        api_peak_kib: peak("api")?,
        serve_peak_kib: peak("serve")?,
        init_p50_ms: at(500)?,
        init_p99_ms: at(990)?,
        init_max_ms: at(1000)?,
    })
}

/// The most memory that a process has had.
fn peak_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What must hold on any machine that is not busy with something else.
fn aims(seen: &Seen) -> [(&'static str, bool); 3] {
    [
        ("calls a second", seen.load.calls_a_second > 0.95 * f64::from(RATE)),
        ("memory of apid api", seen.api_peak_kib < MEMORY_KIB),
        ("PID 1 within 20 ms", seen.init_p99_ms < 20.0),
    ]
}

fn table(seen: &Seen) -> String {
    let Load { calls_a_second, list_p50_ms, list_p99_ms, list_max_ms, log_bytes, log_ms } = seen.load;
    let times = |p50: f64, p99: f64, max: f64| format!("{p50:.1} / {p99:.1} / {max:.1} ms");
    let megabytes = |kib: u64| format!("{} MiB", kib / 1024);
    let log_mib = f64::from(u32::try_from(log_bytes >> 20).unwrap_or(u32::MAX));
    let rows = [
        ("watchers", seen.watchers.to_string()),
        ("ServiceList a second", format!("{calls_a_second:.0}")),
        ("ServiceList, median / p99 / most", times(list_p50_ms, list_p99_ms, list_max_ms)),
        ("PID 1 answers, median / p99 / most", times(seen.init_p50_ms, seen.init_p99_ms, seen.init_max_ms)),
        ("apid api, most memory", megabytes(seen.api_peak_kib)),
        ("apid serve, most memory", megabytes(seen.serve_peak_kib)),
        ("followed log", format!("{:.0} MiB/s", log_mib / (log_ms / 1000.0))),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let verdict = |(name, met): (&str, bool)| format!("{name}: {}\n", if met { "met" } else { "MISSED" });
    say::table(&rows) + &aims(seen).map(verdict).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_that_is_missed_is_told() {
        let load = Load {
            calls_a_second: 999.0,
            list_p50_ms: 1.0,
            list_p99_ms: 2.0,
            list_max_ms: 3.0,
            log_bytes: 1 << 30,
            log_ms: 10_000.0,
        };
        let seen = Seen {
            load,
            watchers: 200,
            api_peak_kib: 70_000,
            serve_peak_kib: 8_000,
            init_p50_ms: 0.1,
            init_p99_ms: 1.0,
            init_max_ms: 5.0,
        };
        let table = table(&seen);
        assert!(table.contains("memory of apid api: MISSED\n") && table.contains("102 MiB/s"), "{table}");
        assert!(table.contains("calls a second: met\n"), "{table}");
    }

    #[test]
    fn a_process_tells_its_peak() {
        assert!(peak_kib(std::process::id()).unwrap() > 100);
    }
}
