//! `dhcp-hook`: dhcpcd runs it as root at each turn of an interface, with what it knows in the environment.
//!
//! [`podium_init::render::lease`] reads that; here it takes effect: the interface's file below /run/podium/network, then
//! the names and time servers of the whole node, then what dhcpcd itself cannot set, then READY. Runs take turns by a
//! lock. A step that fails is reported, and the later ones are still done.

use crate::sys::{file, limited, notify, tool};
use crate::{kmsg, network};
use anyhow::{Context, Result, bail};
use podium_init::config::MachineConfig;
use podium_init::paths;
use podium_init::render::interfaces::{Wanted, wanted};
use podium_init::render::lease::{self, Change, Env, State, What};
use podium_init::render::{names, time};
use podium_init::services::fits;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// iproute2's: for what dhcpcd cannot set.
const IP: &str = "/usr/bin/ip";
/// A batch of some routes takes milliseconds; the next hook waits for this one.
const IP_LIMIT: Duration = Duration::from_secs(10);
/// Tells chronyd of new servers.
const CHRONYC: &str = "/usr/bin/chronyc";
/// It answers within milliseconds; dhcpcd waits for its hook, and must not for a chronyd that hangs.
const CHRONYC_LIMIT: Duration = Duration::from_secs(3);
/// There while chronyd runs.
const CHRONYD_SOCKET: &str = "/run/chrony/chronyd.sock";
/// An interface's file holds a few bounded lists.
const STATE_LIMIT: usize = 64 << 10;

/// Whatever dhcpcd says, this is what follows.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    kmsg::start();
    // Values that are no text are none of ours.
    let env: Env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = network::config_in_use();
    let all = wanted(&config, &network::present());
    let of_config = |name: &str| all.iter().find(|wanted| wanted.name == name).cloned();
    let change = match lease::change(&env, of_config) {
        Ok(change) => change,
        Err(error) => bail!("{error}"),
    };
    let wanted = of_config(&change.interface);
    match &change.what {
        What::Nothing => Ok(()),
        What::Begins => wanted.as_ref().map_or(Ok(()), set_mtu),
        What::Has(..) | What::Lost(_) => take(&config, &change, wanted.as_ref()),
    }
}

/// A lease came or went.
fn take(config: &MachineConfig, change: &Change, wanted: Option<&Wanted>) -> Result<()> {
    let _turn = lock()?;
    let (before, after) = remember(change)?;
    let mut failed = Vec::new();
    let mut step = |result: Result<()>| {
        if let Err(error) = result {
            failed.push(format!("{error:#}"));
        }
    };
    step(tell_node(config));
    if let (What::Has(source, _), Some(wanted)) = (&change.what, wanted) {
        step(run_ip(&wanted.ip_batch(source.routes(wanted))));
    }
    for line in lease::news(&before, &after) {
        kmsg::say(&line);
    }
    if after.has_address() && is_reachable(config)? {
        step(ready());
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}: {}", change.interface, failed.join("; ")) }
}

/// Writes names and time servers of the whole node again, after the config has changed.
///
/// # Errors
/// What could not be written; the rest may have been.
pub(crate) fn renew(config: &MachineConfig) -> Result<()> {
    let _turn = lock()?;
    tell_node(config)
}

/// Holds until dropped. dhcpcd runs one hook at a time, but a killed dhcpcd's last one may still be at work.
fn lock() -> Result<OwnedFd> {
    file::make_dir(Path::new(paths::NETWORK), 0o700)?;
    let path = format!("{}/.lock", paths::NETWORK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd =
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).with_context(|| format!("open {path}"))?;
    rustix::fs::flock(&fd, FlockOperation::LockExclusive).with_context(|| format!("lock {path}"))?;
    Ok(fd)
}

/// Brings the interface's file up to date; what it said before, and what it says now.
fn remember(change: &Change) -> Result<(State, State)> {
    let path = state_path(&change.interface);
    let before = read_state(&path).unwrap_or_default();
    let mut after = before.clone();
    after.apply(change);
    if after.leases.is_empty() {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    } else {
        file::update(&path, &serde_json::to_vec(&after)?, 0o600)?;
    }
    Ok((before, after))
}

fn state_path(interface: &str) -> PathBuf {
    Path::new(paths::NETWORK).join(format!("{interface}.json"))
}

/// `None` when there is none, or it cannot be understood: dhcpcd will tell again.
fn read_state(path: &Path) -> Option<State> {
    serde_json::from_slice(&file::read(path, STATE_LIMIT).ok()?).ok()
}

/// All interfaces' states.
fn states() -> Result<Vec<State>> {
    let name = || format!("list {}", paths::NETWORK);
    let mut states = Vec::new();
    for entry in std::fs::read_dir(paths::NETWORK).with_context(name)? {
        let path = entry.with_context(name)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            states.extend(read_state(&path));
        }
    }
    Ok(states)
}

/// resolv.conf, hosts, the host name, time servers: what concerns the node and not one interface.
fn tell_node(config: &MachineConfig) -> Result<()> {
    let states = states()?;
    let leases = lease::best_first(&states);
    let uname = rustix::system::uname();
    let now = uname.nodename().to_str().ok();
    for rendered in names::files(config, &leases, now) {
        file::update(Path::new(&rendered.path), &rendered.bytes, rendered.mode)?;
    }
    let hostname = names::hostname(config, &leases, now);
    if now != Some(hostname.as_str()) {
        nix::unistd::sethostname(&hostname).with_context(|| format!("set the host name {hostname}"))?;
        kmsg::say(&format!("network: this node is {hostname}"));
    }
    tell_chronyd(config, &leases)
}

/// chronyd reads the sources' folder when it starts and when it is told to.
fn tell_chronyd(config: &MachineConfig, leases: &[&lease::Lease]) -> Result<()> {
    let sources = time::sources(config, leases);
    let path = Path::new(&sources.path);
    let same = file::read(path, STATE_LIMIT).is_ok_and(|have| have == sources.bytes);
    file::make_dir(Path::new(paths::CHRONY_SOURCES), 0o755)?;
    file::update(path, &sources.bytes, sources.mode)?;
    if same || !Path::new(CHRONYD_SOCKET).exists() {
        return Ok(());
    }
    limited::run(CHRONYC, &["reload", "sources"], CHRONYC_LIMIT).map(drop)
}

fn set_mtu(wanted: &Wanted) -> Result<()> {
    let Some(mtu) = wanted.mtu else {
        return Ok(());
    };
    file::set(&Path::new("/sys/class/net").join(&wanted.name).join("mtu"), &mtu.to_string())
}

/// Every line is tried, also after one that failed.
fn run_ip(lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let batch = lines.join("\n") + "\n";
    tool::within(IP_LIMIT, IP, &["-force", "-batch", "-"], batch.as_bytes())
        .map(drop)
        .with_context(|| format!("set what dhcpcd cannot: {}", lines.join("; ")))
}

/// Whether the node has an address that the kubelet may use: it waits for that one.
fn is_reachable(config: &MachineConfig) -> Result<bool> {
    let states = states()?;
    let leases = lease::best_first(&states);
    let addresses: Vec<_> =
        leases.iter().flat_map(|lease| &lease.addresses).map(|cidr| cidr.address).collect();
    Ok(fits(&config.machine.kubelet.node_ip.valid_subnets, &addresses))
}

/// dhcpcd clears the environment of its hook, so the socket is known by name. Before PID 1 has made it, or in a test
/// without PID 1, nobody waits for it.
fn ready() -> Result<()> {
    let path = format!("{}/dhcpcd", paths::NOTIFY);
    if !Path::new(&path).exists() {
        return Ok(());
    }
    Ok(notify::send(&path, "READY=1")?)
}
