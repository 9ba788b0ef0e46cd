//! A node in namespaces: the real PID 1 on a private root, with fakes in place of containerd, kubelet and the rest.
//!
//! As root it runs as a container of root's would; as somebody else in a user namespace, then without cgroups. The
//! test stays outside and looks in through `/proc/PID/root`, the console, and what the fakes record. Every wait has
//! a condition and a limit. A node that is dropped is killed whole, by the kernel, with its PID 1.

mod control;
mod group;
mod process;
mod root;

pub use control::{Lines, Printed};
pub use process::Process;
pub use root::{Prepare, Setup};

use crate::build::programs;
use crate::console::{Console, Echo, Line};
use crate::gauge::field;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a loaded two-core machine; a test that works never waits for it.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What a fake was given at one start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// In the node's PID namespace.
    pub pid: u32,
    /// With the name it was executed by.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Open descriptors and what they are.
    pub fds: BTreeMap<u32, String>,
    /// `/proc/self/status`, by name.
    pub status: BTreeMap<String, String>,
    /// Current folder.
    pub cwd: String,
    /// It leads a session of its own.
    pub session_leader: bool,
    /// `oom_score_adj`.
    pub oom_score: i32,
    /// The soft limit of open files.
    pub nofile: Option<u64>,
    /// `/proc/self/cgroup`.
    pub cgroup: String,
    /// Static pod manifests at that moment: name and text.
    pub manifests: BTreeMap<String, String>,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its PID 1's stdout and stderr.
    pub console: Console,
    /// Holds the namespaces; ends as PID 1 ended.
    unshare: Child,
    /// PID 1, as the host numbers it.
    init: u32,
    root: Option<tempfile::TempDir>,
    group: Option<group::Group>,
}

impl Node {
    /// Starts one and waits until it has said its first line.
    ///
    /// # Errors
    /// Namespaces are not permitted here, or PID 1 ended before it said anything; with its last lines.
    pub fn start(setup: &Setup) -> Result<Self> {
        Self::boot(setup.make(programs()?)?, setup)
    }

    /// Starts one and waits until the kubelet is up.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn up(setup: &Setup) -> Result<Self> {
        let node = Self::start(setup)?;
        node.wait("podium: kubelet: up")?;
        Ok(node)
    }

    /// Boots the same root again, with everything that is on it, after [`Self::end`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn again(mut self, setup: &Setup) -> Result<Self> {
        let root = self.root.take().context("a node has a root")?;
        drop(self);
        Self::boot(root, setup)
    }

    fn boot(root: tempfile::TempDir, setup: &Setup) -> Result<Self> {
        let programs = programs()?;
        let group = group::Group::make()?;
        let mut command = Command::new("env");
        command
            .args(setup.ignored.iter().map(|signal| format!("--ignore-signal={signal}")))
            .arg(&programs.launch)
            .args(["--die-with-parent", "9"]);
        if let Some(group) = &group {
            command.arg("--join").arg(group.procs());
        }
        command.arg("unshare");
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args([
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount",
            "--ipc",
            "--uts",
            "--net",
            "--cgroup",
        ]);
        if let Some([monotonic, boot]) = setup.uptime.map(|clocks| clocks.map(|seconds| seconds.to_string()))
        {
            command.args(["--time", "--monotonic", &monotonic, "--boottime", &boot]);
        }
        command.arg(&programs.launch);
        for volume in &setup.volumes {
            command.arg("--volume").arg(root.path().join(volume.trim_start_matches('/')));
        }
        command.arg("--enter").arg(root.path());
        command.args(setup.open_files.iter().flat_map(|count| ["--files".to_owned(), count.to_string()]));
        command.arg("/usr/sbin/init").args(&setup.words);
        command.env_clear().envs(&setup.env).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let started = Instant::now();
        let unshare = command.spawn().context("start unshare (Debian's util-linux)")?;
        // It holds the pipe's other end: without it the console ends with the node.
        drop(command);
        let console = Console::default();
        console.follow(reader, "", started, Echo::No);
        let mut node = Self { console, unshare, init: 0, root: Some(root), group };
        node.console.wait(0, "podium: init ", LIMIT).context("the node did not start")?;
        let holder = node.unshare.id();
        node.init = eventually("PID 1", LIMIT, || process::children(holder).first().copied())?;
        Ok(node)
    }

    /// Waits for a line, from the first on.
    ///
    /// # Errors
    /// It did not come; with the last lines.
    pub fn wait(&self, text: &str) -> Result<Line> {
        self.console.wait(0, text, LIMIT)
    }

    /// PID 1's own memory that it shares with nobody, in KiB (`Pss_Anon`).
    ///
    /// # Errors
    /// It is gone.
    pub fn pss_anon(&self) -> Result<u64> {
        field(&std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.init))?, "Pss_Anon")
    }

    /// A file of the node, as the node sees it.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Whether services have cgroups of their own here.
    #[must_use]
    pub fn has_cgroups(&self) -> bool {
        self.group.is_some()
    }

    /// A file of the root as it was made, also after the node's end: not what is on a file system of its own.
    #[must_use]
    pub fn root(&self, path: &str) -> PathBuf {
        let root = self.root.as_ref().map_or(Path::new("/nonexistent"), tempfile::TempDir::path);
        root.join(path.trim_start_matches('/'))
    }

    /// What a fake was given, start by start.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn starts(&self, name: &str) -> Result<Vec<Start>> {
        let text = std::fs::read_to_string(self.root(&format!("/fake/{name}.starts"))).unwrap_or_default();
        // The last line may be in the making.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("{name}: {line}")))
            .collect()
    }

    /// Waits for a fake's start number `count` (from 1) and gives it.
    ///
    /// # Errors
    /// It did not come; with the console's last lines.
    pub fn nth_start(&self, name: &str, count: usize) -> Result<Start> {
        let start = || self.starts(name).ok()?.into_iter().nth(count - 1);
        eventually(&format!("start {count} of {name}"), LIMIT, start)
            .map_err(|error| self.with_console(&error))
    }

    /// Makes a file that a fake waits for.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn touch(&self, path: &str) -> Result<()> {
        std::fs::write(self.root(path), "").with_context(|| format!("touch {path}"))
    }

    /// Says what a fake does from its next start on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn script(&self, name: &str, script: &str) -> Result<()> {
        std::fs::write(self.root(&format!("/fake/{name}")), script)
            .with_context(|| format!("script of {name}"))
    }

    /// Sends a signal to PID 1 from outside, as a container's runtime does.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: i32) -> Result<()> {
        process::kill(self.init, signal)
    }

    /// Sends a signal to the process that the node calls `pid`.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal_process(&self, pid: u32, signal: i32) -> Result<()> {
        let process = self.processes().into_iter().find(|process| process.pid == pid);
        process::kill(process.with_context(|| format!("process {pid} is gone"))?.host_pid, signal)
    }

    /// Sets PID 1's soft limit of open files, whatever it has open.
    ///
    /// # Errors
    /// Not permitted.
    pub fn limit_files(&self, count: u64) -> Result<()> {
        use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
        let init = i32::try_from(self.init).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: Some(count), maximum: getrlimit(Resource::Nofile).maximum };
        prlimit(init, Resource::Nofile, limit).map(drop).context("limit the open files of PID 1")
    }

    /// All processes of the node.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        process::of_namespace(self.init)
    }

    /// PID 1, as the host numbers it: below `/proc` the host shows it.
    #[must_use]
    pub fn init(&self) -> u32 {
        self.init
    }

    /// Waits for the node's end and gives the signal that ended its PID 1: SIGHUP (1) is a reboot, SIGINT (2) a
    /// power off, as reboot(2) has it in a PID namespace.
    ///
    /// # Errors
    /// It did not end, or with an exit code; with the console's last lines.
    pub fn end(&mut self, limit: Duration) -> Result<i32> {
        let unshare = &mut self.unshare;
        let ended = eventually("the node's end", limit, || unshare.try_wait().ok().flatten());
        let status = ended.map_err(|error| self.with_console(&error))?;
        match status.signal() {
            Some(signal) => Ok(signal),
            None => bail!("PID 1 ended with {status}; the console's last lines:\n{}", self.console.tail(40)),
        }
    }

    /// An error that carries what the node said last.
    #[must_use]
    pub fn with_console(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow::anyhow!("{error:#}; the console's last lines:\n{}", self.console.tail(40))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its child, PID 1, is killed with it, and with that one the whole namespace. Both fail when it ended before.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Looks until there is an answer.
///
/// # Errors
/// There was none within `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= until {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether these tests run as root: the other way some things cannot be had, and a test that needs them says so.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
