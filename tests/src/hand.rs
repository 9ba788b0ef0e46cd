//! The host's end of `guest serve`, the pod that acts inside a node for the tests; see `bin/guest.rs`.

mod process;
mod wait;

pub use process::Process;

use crate::http;
use crate::react::Reaction;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The port on the node where it listens.
pub const PORT: u16 = 9000;
/// What runs or is waited for inside the guest has limits of its own, of five minutes each and two in a row.
const RUNNING_LIMIT: Duration = Duration::from_secs(900);
/// What is measured there as well, of a quarter of an hour together by the guest's clock, see `react.rs`.
const MEASURING_LIMIT: Duration = Duration::from_secs(3600);

/// Something in a folder of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute.
    pub path: String,
    /// `folder`, `file`, `link`, `socket`, `FIFO` or `device`.
    pub kind: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// What became of a thousand orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Orphans {
    /// How many children the crowd had.
    pub children: usize,
    /// How many of them PID 1 got.
    pub adopted: usize,
    /// From the last kill to the last one gone.
    pub reaped_ms: u64,
}

/// What a program of the node has printed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Printed {
    /// Exit code 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A connection's parameters; every call is a request of its own.
#[derive(Debug, Clone, Copy)]
pub struct Hand {
    port: u16,
}

impl Hand {
    /// Waits until the pod answers on `port` of this host.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn at(port: u16, limit: Duration) -> Result<Self> {
        http::get_within(port, "/", limit).context("the tests' pod")?;
        Ok(Self { port })
    }

    /// Every process of the node.
    ///
    /// # Errors
    /// When the pod does not answer.
    pub fn processes(&self) -> Result<Vec<Process>> {
        Ok(serde_json::from_str(&self.ask("/ps")?)?)
    }

    /// The one process of that name whose arguments contain `argument`.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn process(&self, name: &str, argument: &str) -> Result<Process> {
        let is = |process: &Process| {
            process.name == name && process.argv.iter().any(|given| given.contains(argument))
        };
        let mut found: Vec<Process> = self.processes()?.into_iter().filter(is).collect();
        match (found.pop(), found.len()) {
            (Some(process), 0) => Ok(process),
            (None, _) => bail!("no process {name} with {argument:?}"),
            (Some(_), more) => bail!("{} processes {name} with {argument:?}", more + 1),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&self, pid: i32, signal: i32) -> Result<()> {
        self.ask(&format!("/kill?pid={pid}&signal={signal}")).map(drop)
    }

    /// The body of a page that a server on the node's loopback serves.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, port: u16, path: &str) -> Result<String> {
        self.ask(&format!("/http?port={port}&path={path}"))
    }

    /// The status of a page for who comes over TLS without a certificate.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn anonymous(&self, port: u16, path: &str) -> Result<u16> {
        Ok(self.ask(&format!("/status?port={port}&path={path}"))?.parse()?)
    }

    /// The line that a unix socket of the node answers to `line`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn line(&self, socket: &str, line: &str) -> Result<String> {
        let hex: String = line.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("/line?socket={socket}&hex={hex}"))
    }

    /// A file of the node.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        self.ask(&format!("/cat?path={path}"))
    }

    /// The names in a folder of the node, sorted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        Ok(serde_json::from_str(&self.ask(&format!("/ls?path={path}"))?)?)
    }

    /// A folder of the node and everything below it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn tree(&self, path: &str) -> Result<Vec<Entry>> {
        Ok(serde_json::from_str(&self.ask(&format!("/tree?path={path}"))?)?)
    }

    /// The permission bits of a file of the node.
    ///
    /// # Errors
    /// It is not there.
    pub fn mode(&self, path: &str) -> Result<u32> {
        Ok(self.ask(&format!("/mode?path={path}"))?.parse()?)
    }

    /// Where a link of the node leads.
    ///
    /// # Errors
    /// When it is none.
    pub fn link(&self, path: &str) -> Result<String> {
        self.ask(&format!("/link?path={path}"))
    }

    /// Writes one word into a file of the node.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, word: &str) -> Result<()> {
        self.ask(&format!("/write?path={path}&text={word}")).map(drop)
    }

    /// Removes a file of the node.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.ask(&format!("/remove?path={path}")).map(drop)
    }

    /// Does to a path of the node what a foreign process may do: see `change` in `bin/guest.rs` for the words.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn change(&self, what: &str, path: &str, text: &[u8], number: u64) -> Result<()> {
        self.change_by("do", what, path, text, number)
    }

    /// The same as a process of the node would do it, and not one of a pod: a mount point of another mount namespace
    /// can be removed, and takes the mount with it.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn change_there(&self, what: &str, path: &str, text: &[u8]) -> Result<()> {
        self.change_by("there", what, path, text, 0)
    }

    fn change_by(&self, verb: &str, what: &str, path: &str, text: &[u8], number: u64) -> Result<()> {
        let hex = hex(text);
        // It lasts for seconds of the guest's, which may be many more of ours.
        let ask = if what.starts_with("set for seconds") { Self::ask_for } else { Self::ask };
        let what = what.replace(' ', "+");
        ask(self, &format!("/{verb}?what={what}&path={path}&number={number}&text={hex}")).map(drop)
    }

    /// Writes a file of the node aside and renames it to its place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace(&self, path: &str, text: &[u8]) -> Result<()> {
        self.change("replace", path, text, 0)
    }

    /// Has PID 1 stop, and no loop of its turn any more.
    ///
    /// # Errors
    /// It cannot be traced.
    pub fn make_init_hang(&self) -> Result<()> {
        self.ask("/tamper?how=hang").map(drop)
    }

    /// Has a process join a cgroup of the node and fork until that fails with EAGAIN; how many children it had.
    ///
    /// # Errors
    /// It could not join, or something else ended it.
    pub fn bomb(&self, group: &str) -> Result<u64> {
        Ok(self.ask(&format!("/bomb?group={group}"))?.trim().parse()?)
    }

    /// The UID of the pod that a process belongs to, as its cgroup has it.
    ///
    /// # Errors
    /// When the process is gone, or in no pod.
    pub fn pod_uid(&self, pid: i32) -> Result<String> {
        let groups = self.read(&format!("/proc/{pid}/cgroup"))?;
        let part = groups.split(['/', '\n']).find_map(|part| part.strip_prefix("pod"));
        part.map(str::to_owned).with_context(|| format!("process {pid} is in no pod: {groups}"))
    }

    /// Changes the last of `pods` pods behind those of `base` and measures how long that takes.
    ///
    /// # Errors
    /// The change did not arrive.
    pub fn reaction(&self, base: &str, pods: usize, mark: &str) -> Result<Reaction> {
        let base = hex(base.as_bytes());
        let answer = self.measure(&format!("/react?pods={pods}&mark={mark}&text={base}"))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Stores a config that restarts the pod behind `port`, and measures in milliseconds how long it does not answer.
    ///
    /// # Errors
    /// It was never away, or did not return.
    pub fn gap(&self, config: &str, port: u16) -> Result<f64> {
        let config = hex(config.as_bytes());
        Ok(self.measure(&format!("/gap?port={port}&text={config}"))?.trim().parse()?)
    }

    /// Stores a config and waits until the pod `updated` has the image it says and answers on `port`.
    ///
    /// # Errors
    /// It does not.
    pub fn settle(&self, config: &str, port: u16) -> Result<()> {
        let config = hex(config.as_bytes());
        self.ask_for(&format!("/settle?port={port}&text={config}")).map(drop)
    }

    /// Runs `init ctl` inside the node, with words separated by blanks.
    ///
    /// # Errors
    /// It cannot be run; that it refuses is none.
    pub fn ctl(&self, words: &str) -> Result<Printed> {
        let answer = self.ask_for(&format!("/ctl?words={}", hex(words.as_bytes())))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Makes PID 1 panic as soon as it lists a folder; see `src/tamper.rs`.
    ///
    /// # Errors
    /// It cannot be traced.
    pub fn make_init_panic(&self) -> Result<()> {
        self.ask("/tamper?how=panic").map(drop)
    }

    /// Makes PID 1 fault at once. The node has no time to answer: whether it did, its console tells.
    pub fn make_init_fault(&self) {
        drop(http::try_get(self.port, "/tamper?how=fault"));
    }

    /// Makes the kernel panic at once; as [`Hand::make_init_fault`].
    pub fn make_kernel_panic(&self) {
        drop(http::try_get(self.port, "/write?path=/proc/sysrq-trigger&text=c"));
    }

    /// Gives an image of the node another name, too.
    ///
    /// # Errors
    /// There is no such image, or the name is taken by another.
    pub fn tag(&self, image: &str, name: &str) -> Result<()> {
        self.ask(&format!("/tag?image={image}&name={name}")).map(drop)
    }

    /// Fills a file system of the node with one file.
    ///
    /// # Errors
    /// When another error than "no space left" came.
    pub fn fill(&self, path: &str) -> Result<()> {
        self.ask(&format!("/fill?path={path}")).map(drop)
    }

    /// Makes PID 1 the parent of all children of the process `crowd`, and ends them all at once.
    ///
    /// # Errors
    /// When they are not reaped within a minute.
    pub fn orphan(&self, crowd: i32) -> Result<Orphans> {
        Ok(serde_json::from_str(&self.ask(&format!("/orphans?crowd={crowd}"))?)?)
    }

    fn ask(&self, target: &str) -> Result<String> {
        http::get(self.port, target)
    }

    fn ask_for(&self, target: &str) -> Result<String> {
        http::get_for(self.port, target, RUNNING_LIMIT)
    }

    fn measure(&self, target: &str) -> Result<String> {
        http::get_for(self.port, target, MEASURING_LIMIT)
    }
}

/// Bytes in a query: no letter of theirs means anything to a URL.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
