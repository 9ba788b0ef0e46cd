//! `run`: builds what is not built yet, boots the image in QEMU and shows its console; or, with `--until ready`,
//! waits without a console until every static pod runs, tells how long each part took and powers off.

use crate::config::{self, Delivery};
use crate::interrupt::Interrupt;
use crate::operate::Operator;
use crate::{doctor, image, say};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use podium_tests::artifacts::Image;
use podium_tests::console::Echo;
use podium_tests::disk::Disk;
use podium_tests::http;
use podium_tests::inline::LONGEST_COMMAND_LINE;
use podium_tests::markers::{READY, Timings};
use podium_tests::operator;
use podium_tests::qemu::{Accel, ExtraDisk, Machine, Options};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

/// Where the demo pod answers: the guest's port, and the host's by default.
const DEMO_PORT: u16 = 8080;
/// A pod is given its grace of 30 s at most when the machine stops; then there is the rest, under a slow TCG.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(180);
/// Of each service, after a failure.
const LOG_LINES: usize = 15;
const POLL: Duration = Duration::from_millis(100);

/// Boot the image in QEMU and show its console; Ctrl-C ends it.
///
/// Without a --config the demo's config runs one pod, `hello`: the command says when http://127.0.0.1:8080 answers, and
/// when the node's API does, with the podiumctl command to type. Keys for it are made once and kept in out/run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Machine config (YAML) for the node instead of the image's demo
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Boot without a console, wait until all static pods run, print the timings, power off
    #[arg(long, value_name = "WHAT")]
    until: Option<Until>,
    /// How long --until may take, in seconds
    #[arg(long, value_name = "S", default_value_t = 300)]
    timeout: u64,
    /// Print the result as JSON on standard output (with --until)
    #[arg(long, requires = "until")]
    json: bool,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 2)]
    smp: u32,
    /// What executes the machine: kvm is fast, tcg works everywhere [possible values: auto, kvm, tcg]
    #[arg(long, value_name = "HOW", default_value_t = Accel::Auto)]
    accel: Accel,
    /// Further words for the kernel command line, e.g. 'podium.config=LABEL=CFG:/a.yaml'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Option<String>,
    /// Lead a TCP port of 127.0.0.1 to one of the machine; can be given more than once [default: 8080:8080]
    #[arg(long, value_name = "HOST:GUEST")]
    forward: Vec<Forward>,
    /// Keep the machine's disk in this file, so that the next run finds what this one stored
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Further arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGS")]
    qemu: Vec<String>,
}

/// When a headless run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// Every static pod of the config is running
    Ready,
}

/// `HOST:GUEST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Forward {
    host: u16,
    guest: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(host, guest)| {
            Some(Self { host: host.parse().ok()?, guest: guest.parse().ok().filter(|&guest| guest != 0)? })
        });
        parsed.ok_or_else(|| format!("`{text}` is not HOST:GUEST, e.g. 8080:80 (0:80 picks a free port)"))
    }
}

/// Runs the command.
///
/// # Errors
/// When something could not be built or started.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    doctor::ensure()?;
    let image = image::ensure()?;
    let disk = match &arguments.disk {
        Some(path) => Disk::kept(path, &image.disk)?,
        None => Disk::temporary(&image.disk)?,
    };
    // Who names a config means that one, and who measures a boot the image's own.
    let names_one = |words: &String| words.contains("podium.config");
    let operated = arguments.config.is_none()
        && arguments.until.is_none()
        && !arguments.append.as_ref().is_some_and(names_one);
    let operator = operated.then(|| say::phase("building podiumctl", Operator::new)).transpose()?;
    let (options, config) = options(arguments, &image, &disk, operator.as_ref())?;
    let code = match arguments.until {
        None => interactive(arguments, &options, operator.as_ref()),
        Some(Until::Ready) => until_ready(arguments, &options).inspect_err(|_| {
            eprintln!("the services' last lines on the machine's disk:\n{}", disk.logs(LOG_LINES));
        }),
    };
    drop(config);
    code
}

/// The machine's options, and the config's disk, which must live as long as the machine.
fn options(
    arguments: &Arguments,
    image: &Image,
    disk: &Disk,
    operator: Option<&Operator>,
) -> Result<(Options, Option<Disk>)> {
    let mut options = Options::new(&image.kernel, &image.initramfs);
    options.words.clone_from(&image.words);
    options.words.extend(arguments.append.iter().cloned());
    options.disk = Some(disk.path().to_owned());
    options.memory_mib = arguments.memory;
    options.smp = arguments.smp;
    options.accel = arguments.accel;
    options.forwards = arguments.forward.iter().map(|forward| (forward.host, forward.guest)).collect();
    if options.forwards.is_empty() && arguments.until.is_none() {
        options.forwards.push((DEMO_PORT, DEMO_PORT));
    }
    if operator.is_some() && !options.forwards.iter().any(|(_, guest)| *guest == operator::PORT) {
        options.forwards.push((0, operator::PORT));
    }
    options.arguments.clone_from(&arguments.qemu);
    // A person watching may reboot the guest; a headless run that reboots has failed.
    options.reboots = arguments.until.is_none();
    let mut config_disk = None;
    let delivery = match (&arguments.config, operator) {
        (Some(file), _) => Some(config::deliver(file, &options.words)?),
        (None, Some(operator)) => Some(operator.config()?),
        (None, None) => None,
    };
    if let Some(Delivery { word, disk }) = delivery {
        options.words.push(word);
        options
            .extra_disks
            .extend(disk.iter().map(|disk| ExtraDisk { path: disk.path().to_owned(), unreadable: false }));
        config_disk = disk;
    }
    let length = options.words.join(" ").len();
    if length > LONGEST_COMMAND_LINE {
        bail!(
            "the kernel command line has {length} bytes, the kernel takes {LONGEST_COMMAND_LINE}: shorten --append"
        );
    }
    Ok((options, config_disk))
}

fn start(options: &Options) -> Result<Machine> {
    say::note(&format!(
        "booting: {} processors, {} MiB, {}",
        options.smp,
        options.memory_mib,
        options.accel.resolve()
    ));
    eprintln!(
        "$ {}",
        podium_image::run::line(Command::new("qemu-system-x86_64").args(options.command_line()))
    );
    Machine::start(options).map_err(|error| {
        let text = format!("{error:#}");
        if text.contains("Could not set up host forwarding rule") {
            return error.context(
                "a port of the host is in use: choose another with --forward HOST:GUEST, e.g. 0:8080",
            );
        }
        error
    })
}

/// Shows the console until the machine or the person ends it.
fn interactive(arguments: &Arguments, options: &Options, operator: Option<&Operator>) -> Result<ExitCode> {
    let interrupt = Interrupt::take_over()?;
    let options = Options { echo: Echo::Stdout, ..options.clone() };
    let mut machine = start(&options)?;
    say::note("this is the node's console; Ctrl-C ends the machine");
    for &(_, guest) in &options.forwards {
        let port = machine.port(guest)?;
        match operator {
            Some(operator) if guest == operator::PORT => operator.tell_when_answering(port)?,
            _ => drop(thread::spawn(move || tell_when_answering(port))),
        }
    }
    let mut powering_off = false;
    loop {
        if let Some(status) = machine.exited()? {
            say::note("the machine is off");
            return if status.success() { Ok(ExitCode::SUCCESS) } else { Err(anyhow!("QEMU: {status}")) };
        }
        if interrupt.taken() {
            // What is kept must be clean; what is thrown away need not be.
            if arguments.disk.is_none() || powering_off {
                say::note("ended");
                return Ok(ExitCode::from(130));
            }
            powering_off = true;
            say::note("pressing the power button, to keep the disk clean; Ctrl-C again pulls the plug");
            machine.press_power_button()?;
        }
        thread::sleep(POLL);
    }
}

/// Says once that a forwarded port answers HTTP. It ends with the process.
fn tell_when_answering(port: u16) {
    let since = Instant::now();
    loop {
        if let Ok(body) = http::try_get(port, "/") {
            let line = body.lines().next().unwrap_or_default();
            let took = say::seconds(since.elapsed());
            say::note(&format!("http://127.0.0.1:{port} answers after {took}: {line}"));
            return;
        }
        thread::sleep(POLL);
    }
}

/// Waits for the pods, powers off, tells the times. A failure is also told in JSON, since stdout is read by programs.
fn until_ready(arguments: &Arguments, options: &Options) -> Result<ExitCode> {
    let limit = Duration::from_secs(arguments.timeout);
    match boot_and_stop(arguments, options, limit) {
        Ok((timings, pods)) => {
            if arguments.json {
                say::json(
                    &json!({"ready": true, "pods": pods, "accel": options.accel.resolve().to_string(), "timings": timings}),
                )?;
            } else {
                print!("{}", timing_table(&timings));
            }
            say::note("all pods ran; the machine powered off cleanly");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if arguments.json {
                say::json(&json!({"ready": false, "reason": format!("{error:#}")}))?;
            }
            Err(error)
        }
    }
}

/// One whole life of a machine: its times, and how many pods ran.
fn boot_and_stop(arguments: &Arguments, options: &Options, limit: Duration) -> Result<(Timings, u64)> {
    let interrupt = Interrupt::take_over()?;
    let mut machine = start(options)?;
    let bar = say::spinner("waiting until all pods run");
    let deadline = Instant::now() + limit;
    let ready = loop {
        // In short steps, so that Ctrl-C is heard.
        let step = Duration::from_millis(500).min(deadline.saturating_duration_since(Instant::now()));
        match machine.wait(READY, step) {
            Ok(line) => break line,
            Err(_) if interrupt.taken() => bail!("interrupted"),
            Err(_)
                if Instant::now() < deadline
                    && machine.exited()?.is_none()
                    && !machine.console.panicked() => {}
            Err(_) => {
                return Err(machine.wait(READY, Duration::ZERO).err().context("no reason")?)
                    .with_context(|| format!("not ready within {}", say::seconds(limit)));
            }
        }
    };
    // The memory of PID 1 is told right after.
    machine.console.wait(ready.number, "podium: memory: ", Duration::from_secs(120))?;
    bar.finish_and_clear();
    let timings = Timings::of(&machine.console.lines());
    let pods = ready.text.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_default();
    let lines: Vec<String> = machine.console.lines().into_iter().map(|line| line.text).collect();
    say::phase("powering off", || machine.power_off(POWER_OFF_LIMIT))?;
    if arguments.config.is_some() {
        config_used(&lines, arguments.disk.is_some())?;
    }
    Ok((timings, pods))
}

/// Whether the config that was given is the one that ran, all of it: the node falls back to another one when it cannot
/// use it, and leaves out a pod that is wrong. What it said of it is the error.
///
/// A disk that is kept may hold the same config from an earlier run; the node then takes that.
fn config_used(lines: &[String], kept_disk: bool) -> Result<()> {
    let of_configs: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("podium: config from ")).collect();
    let is_used = of_configs.iter().any(|line| {
        let is_given = line.starts_with("kernel command line") || (kept_disk && line.starts_with("STATE"));
        is_given && (line.ends_with(" pod") || line.ends_with(" pods"))
    });
    if is_used && !of_configs.iter().any(|line| line.ends_with("because it has errors")) {
        return Ok(());
    }
    let what = if is_used {
        "the node ran, without a part of --config"
    } else {
        "the node ran, but without --config"
    };
    bail!("{what}:\n{}", of_configs.join("\n"))
}

/// The times as a table, a part a line.
pub(crate) fn timing_table(timings: &Timings) -> String {
    let rows = [
        ("kernel to PID 1", timings.kernel_to_init_ms),
        ("PID 1 to containerd", timings.init_to_containerd_exec_ms),
        ("  of it the initramfs", timings.initramfs_ms),
        ("containerd until it is ready", timings.containerd_start_ms),
        ("containerd's READY to kubelet", timings.containerd_ready_to_kubelet_exec_ms),
        ("kubelet to the first container", timings.kubelet_to_first_container_ms),
        ("power on to all pods running", timings.total_ms),
    ];
    let rows = rows.map(|(name, time)| {
        vec![
            name.to_owned(),
            time.map_or_else(|| "?".to_owned(), |time| format!("{time:.1}")),
            "ms".to_owned(),
        ]
    });
    let memory = timings.init_pss_kib.zip(timings.init_pss_anon_kib);
    let memory = memory.map(|(pss, own)| format!("PID 1 holds {pss} KiB (PSS), {own} KiB of it its own\n"));
    say::table(&rows) + &memory.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_two_ports() {
        assert_eq!("8081:80".parse(), Ok(Forward { host: 8081, guest: 80 }));
        assert_eq!("0:80".parse(), Ok(Forward { host: 0, guest: 80 }));
        for bad in ["80", "x:80", "80:0", "80:99999", ":"] {
            assert!(bad.parse::<Forward>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_config_that_was_not_used_or_not_whole_is_no_success() {
        let used = |lines: &[&str], kept| {
            let lines: Vec<String> = lines.iter().map(|line| format!("podium: config from {line}")).collect();
            config_used(&lines, kept).map_err(|error| error.to_string())
        };
        let inline = "kernel command line (inline)";
        let taken = format!("{inline}: 2 pods");
        assert_eq!(used(&[&taken], false), Ok(()));
        assert_eq!(used(&[&format!("{inline}: line 3: x: warning: y"), &taken], false), Ok(()));
        assert_eq!(used(&["STATE: 1 pod"], true), Ok(()));
        assert!(used(&["STATE: 1 pod"], false).is_err());
        let refused = used(&[&format!("{inline}: line 3: z: unknown key"), "image default: 1 pod"], false);
        assert!(refused.is_err_and(|text| text.contains("line 3: z: unknown key")));
        let part = used(&[&taken, &format!("{inline}: not kept in STATE, because it has errors")], false);
        assert!(part.is_err_and(|text| text.starts_with("the node ran, without a part")));
    }

    #[test]
    fn a_time_that_was_not_seen_is_not_made_up() {
        let table = timing_table(&Timings { total_ms: Some(20_000.0), ..Timings::default() });
        assert!(table.contains("power on to all pods running    20000.0  ms"), "{table}");
        assert!(table.contains("kernel to PID 1                       ?  ms"), "{table}");
    }
}
