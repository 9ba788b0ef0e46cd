//! A service that does what a test says: it stands in for containerd, kubelet and whatever else PID 1 starts.
//!
//! Its name is that of the link it was started by. First it leaves a record of what it was given (a line of JSON in
//! `/fake/NAME.starts`), then it performs `/fake/NAME`, a command a line (see [`perform`]), and at the end it waits
//! for a signal. Without such a file it ends with code 0; but apid, which no test here is about, says READY and waits,
//! or ends when it is asked for certificates.

use anyhow::{Context, Result, bail};
use nix::sys::signal::SigSet;
use podium_tests::ns::Start;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often a file that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// The same for a file that a thousand processes wait for.
const DOZE: Duration = Duration::from_millis(500);

/// Where a kubelet has the processes of pods.
const POD_GROUPS: &str = "/sys/fs/cgroup/kubepods/besteffort";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let name = args.first().and_then(|arg| Path::new(arg).file_name()?.to_str()).unwrap_or("fake");
    // Children of a fake: `fake -- COMMAND ...`.
    if let [_, dashes, command @ ..] = args.as_slice()
        && dashes == "--"
    {
        return perform(name, &command.join(" "));
    }
    // One program, several services: the one that is not root and the prober have records of their own.
    let name = match (name, args.get(1).map(String::as_str)) {
        ("apid", Some("api")) => "api",
        ("apid", Some("probe")) => "probe",
        _ => name,
    };
    record(name, &args).with_context(|| format!("record of {name}"))?;
    let Ok(script) = std::fs::read_to_string(format!("/fake/{name}")) else { return unscripted(name, &args) };
    for line in script.lines().filter(|line| !line.trim().is_empty()) {
        perform(name, line).with_context(|| format!("{name}: {line}"))?;
    }
    wait()
}

/// What a service does that no test has told anything.
fn unscripted(name: &str, args: &[String]) -> Result<()> {
    match (name, args.get(1).map(String::as_str)) {
        ("apid", Some("pki")) => notify("READY=1"),
        ("apid" | "api" | "probe", _) => {
            notify("READY=1")?;
            wait()
        }
        _ => Ok(()),
    }
}

/// One command.
fn perform(name: &str, line: &str) -> Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["ready"] => notify("READY=1"),
        ["flood", count] => (0..count.parse::<u32>()?).try_for_each(|_| notify("STATUS=busy")),
        ["status", text @ ..] => notify(&format!("STATUS={}", text.join(" "))),
        // What the prober says of a service that it has just asked.
        ["health", service] => tell_health(service, None),
        ["health", service, failure @ ..] => tell_health(service, Some(&failure.join(" "))),
        ["say", text @ ..] => Ok(writeln!(std::io::stdout(), "{}", text.join(" "))?),
        // Lines of 100 bytes.
        ["print", count] => print(name, count.parse()?),
        // As `until`, for a thousand of them: they leave the processors to the others.
        ["doze", file] => {
            while !Path::new(file).exists() {
                std::thread::sleep(DOZE);
            }
            Ok(())
        }
        ["until", file] => {
            while !Path::new(file).exists() {
                std::thread::sleep(LOOK);
            }
            Ok(())
        }
        // As fast as it goes, until FILE appears: lines of 100 bytes.
        ["pour", file] => {
            while !Path::new(file).exists() {
                print(name, 1000)?;
            }
            Ok(())
        }
        // A file system of SIZE bytes over a folder.
        ["tmpfs", folder, size] => {
            let options = std::ffi::CString::new(format!("size={size}"))?;
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", *folder, "tmpfs", flags, options.as_c_str()).context("mount")
        }
        ["remount", folder, how] => {
            let read_only = rustix::mount::MountFlags::RDONLY;
            let flags = if *how == "ro" { read_only } else { rustix::mount::MountFlags::empty() };
            rustix::mount::mount_remount(*folder, flags, c"").context("remount")
        }
        ["mark", file] => Ok(std::fs::write(file, "")?),
        ["ignore"] => Ok(SigSet::all().thread_block()?),
        ["exit", code] => exit(code.parse()?),
        ["die"] => std::process::abort(),
        // Children that end when FILE appears, of a process that ends at once.
        ["orphans", count, file] => child(&["--", "brood", count, file])?.wait().map(drop).context("wait"),
        ["brood", count, file] => {
            (0..count.parse::<u32>()?).try_for_each(|_| child(&["--", "doze", file]).map(drop))
        }
        // As many orphans as /fake/rain says, which end at once; how many there were is in /fake/rain.fallen.
        ["rain"] => rain(name),
        // A process of its own session whose parent is gone.
        ["daemon"] => child(&["--", "leave"])?.wait().map(drop).context("wait"),
        ["leave"] => child(&["--", "session"]).map(drop),
        ["session"] => {
            rustix::process::setsid()?;
            std::fs::write(format!("/fake/{name}.daemon"), std::process::id().to_string())?;
            wait()
        }
        // The same, in no service's cgroup either, and deaf.
        ["outlaw"] => child(&["--", "away"])?.wait().map(drop).context("wait"),
        ["away"] => child(&["--", "deaf"]).map(drop),
        ["deaf"] => {
            rustix::process::setsid()?;
            SigSet::all().thread_block()?;
            // PID 1's own, which is a leaf; the root group where PID 1 stayed there. Who is not root has none to leave.
            let procs = ["init/cgroup.procs", "cgroup.procs"];
            let join = |file: &str| std::fs::write(Path::new("/sys/fs/cgroup").join(file), "0").is_ok();
            let _left = procs.iter().any(|file| join(file));
            std::fs::write(format!("/fake/{name}.outlaw"), "")?;
            wait()
        }
        // A process of a pod, which ends by SIGTERM and leaves a mark then.
        ["pod"] => {
            child(&["--", "contained"])?;
            perform(name, "until /fake/pod.up")
        }
        ["contained"] => {
            rustix::process::setsid()?;
            join_pod("1")?;
            let mut term = SigSet::empty();
            term.add(nix::sys::signal::Signal::SIGTERM);
            term.thread_block()?;
            std::fs::write("/fake/pod.up", "")?;
            term.wait()?;
            Ok(std::fs::write("/fake/pod.ended", "")?)
        }
        // Runs a process for each static pod, as a kubelet does, for as long as its manifest is there.
        ["pods"] => run_pods(),
        // What a pod has of processes: it is told to end, and does so once /fake/NAME.end is there.
        ["process", uid, pod] => {
            rustix::process::setsid()?;
            join_pod(uid)?;
            let mut term = SigSet::empty();
            term.add(nix::sys::signal::Signal::SIGTERM);
            term.thread_block()?;
            std::fs::write(format!("/fake/{pod}.up"), uid)?;
            term.wait()?;
            std::fs::write(format!("/fake/{pod}.told"), uid)?;
            perform(name, &format!("until /fake/{pod}.end"))
        }
        // A moving target: each process makes the next one and ends.
        ["chain"] => child(&["--", "link"]).map(drop),
        ["link"] => {
            SigSet::all().thread_block()?;
            child(&["--", "link"]).map(drop)
        }
        // COUNT links, each an orphan as soon as it runs, which ends when it has started the next.
        ["row", count] => child(&["--", "step", count])?.wait().map(drop).context("wait"),
        ["step", "0"] => Ok(std::fs::write("/fake/row.done", "")?),
        ["step", count] => {
            let next = (count.parse::<u32>()? - 1).to_string();
            child(&["--", "step", &next]).map(drop)
        }
        // A standard signal, from inside the namespace.
        ["signal", pid, number] => {
            let pid = nix::unistd::Pid::from_raw(pid.parse()?);
            let signal = nix::sys::signal::Signal::try_from(number.parse::<i32>()?)?;
            nix::sys::signal::kill(pid, signal).context("kill")
        }
        _ => bail!("no such command"),
    }
}

/// Goes on when there is a higher number in the file.
fn rain(name: &str) -> Result<()> {
    /// At a time: each batch has a parent that leaves them.
    const BATCH: u64 = 500;
    let mut fallen = 0;
    loop {
        let wanted = std::fs::read_to_string("/fake/rain").ok().and_then(|count| count.parse::<u64>().ok());
        let batch = wanted.unwrap_or(0).saturating_sub(fallen).min(BATCH);
        if batch == 0 {
            std::thread::sleep(LOOK);
            continue;
        }
        perform(name, &format!("orphans {batch} /fake"))?;
        fallen += batch;
        std::fs::write("/fake/rain.new", fallen.to_string())?;
        std::fs::rename("/fake/rain.new", "/fake/rain.fallen")?;
    }
}

fn join_pod(uid: &str) -> Result<()> {
    let group = format!("{POD_GROUPS}/pod{uid}");
    std::fs::create_dir_all(&group)?;
    Ok(std::fs::write(format!("{group}/cgroup.procs"), "0")?)
}

/// A kubelet as far as processes go.
fn run_pods() -> Result<()> {
    let mut running: BTreeMap<String, std::process::Child> = BTreeMap::new();
    loop {
        let mut wanted = BTreeMap::new();
        for text in manifests().values() {
            let Ok(pod) = serde_json::from_str::<serde_json::Value>(text) else { continue };
            let part = |name: &str| pod["metadata"][name].as_str().map(str::to_owned);
            wanted.extend(part("uid").zip(part("name")));
        }
        for (uid, pod) in &wanted {
            if !running.contains_key(uid) {
                running.insert(uid.clone(), child(&["--", "process", uid, pod])?);
            }
        }
        for (_, gone) in running.extract_if(.., |uid, _| !wanted.contains_key(uid)) {
            let pid = nix::unistd::Pid::from_raw(gone.id().try_into()?);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).context("kill")?;
            // Its parent is not who waits for it here.
            std::thread::spawn(move || gone.wait_with_output());
        }
        std::thread::sleep(LOOK);
    }
}

/// Leaves what this start was given.
fn record(name: &str, args: &[String]) -> Result<()> {
    let start = Start {
        pid: std::process::id(),
        argv: args.to_vec(),
        env: std::env::vars().collect(),
        fds: descriptors()?,
        status: status()?,
        cwd: std::env::current_dir()?.display().to_string(),
        session_leader: rustix::process::getsid(None)? == rustix::process::getpid(),
        oom_score: std::fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?,
        nofile: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        cgroup: std::fs::read_to_string("/proc/self/cgroup")?,
        manifests: manifests(),
    };
    let line = serde_json::to_string(&start)? + "\n";
    let mut file = File::options().create(true).append(true).open(format!("/fake/{name}.starts"))?;
    Ok(file.write_all(line.as_bytes())?)
}

/// Every open descriptor but the one that lists them.
fn descriptors() -> Result<BTreeMap<u32, String>> {
    let mut fds = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path())?.display().to_string();
        if !(target.starts_with("/proc/") && target.ends_with("/fd")) {
            fds.insert(entry.file_name().to_string_lossy().parse()?, target);
        }
    }
    Ok(fds)
}

/// `/proc/self/status`, by name.
fn status() -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// The static pod manifests as they are now, by name: what a kubelet looks at, which skips leading dots.
fn manifests() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir("/etc/kubernetes/manifests").into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_seen = !name.starts_with('.') && entry.path().is_file();
        is_seen.then(|| (name, std::fs::read_to_string(entry.path()).unwrap_or_default()))
    });
    texts.collect()
}

fn print(name: &str, count: u32) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for n in 0..count {
        writeln!(out, "{:<99}", format!("{name} line {n:09}"))?;
    }
    Ok(())
}

fn notify(message: &str) -> Result<()> {
    let path = std::env::var("NOTIFY_SOCKET").context("NOTIFY_SOCKET")?;
    UnixDatagram::unbound()?.send_to(message.as_bytes(), path)?;
    Ok(())
}

fn tell_health(service: &str, failure: Option<&str>) -> Result<()> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let asked = Duration::new(now.tv_sec.try_into()?, now.tv_nsec.try_into()?);
    let failure = failure.map(|why| format!(" {why}")).unwrap_or_default();
    notify(&format!("PODIUM_HEALTH={service} {}{failure}", asked.as_nanos()))
}

fn child(args: &[&str]) -> Result<std::process::Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(std::env::args().next().unwrap_or_default()).args(args).stdin(Stdio::null());
    command.spawn().context("start a child")
}

#[expect(clippy::exit, reason = "ending with a code is what this fake was told to do")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn wait() -> Result<()> {
    loop {
        std::thread::park();
    }
}
