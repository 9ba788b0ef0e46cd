//! `init exec SERVICE`, the chain loader: the same process becomes the service, one stage after the other.
//!
//! It runs between PID 1's spawn and the service's program, so that PID 1 itself never forks by hand. Each stage
//! has a name; a failure is told to PID 1 on the service's notify socket with the stage in front, and ends this
//! process with code 125. It decides nothing: everything it does stands in the service's description. One stage is
//! `repair.rs`, of services that have to be looked after: nothing in it keeps the program from its own try.

use crate::repair;
use crate::sys::{self, At, cgroup, notify, process, rights, signals};
use anyhow::{Context, Result, bail};
use podium_init::render::lease::{State, best_first};
use podium_init::services::{
    ABOVE_MEMORY_MIN, NODE_IP_MARK, NODE_NAME_MARK, PID_1_MEMORY_MIN, Service, fill,
};
use podium_init::{notices, paths};
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Exit code when a stage failed; env(1) and the like use it likewise.
const FAILED: i32 = 125;
/// A description is some KiB; a file that is not one must not fill the memory.
const DESCRIPTION_MAX: usize = 1 << 20;

/// Becomes the service.
///
/// # Errors
/// Returns only when PID 1 could not be told why a stage failed.
pub(crate) fn exec(args: &[String]) -> Result<()> {
    let [service] = args else { bail!("usage: init exec SERVICE") };
    let Err(failed) = become_service(service);
    let text = format!("{failed:#}").replace('\n', " ");
    notify::send(&notify_socket(service), &format!("{}{text}", notices::FAILED)).context(text)?;
    leave()
}

/// The folder of descriptions holds this file for each service.
pub(crate) fn description(service: &str) -> String {
    format!("{}/{service}.json", paths::SERVICES)
}

/// A service's `$NOTIFY_SOCKET`.
pub(crate) fn notify_socket(service: &str) -> String {
    format!("{}/{service}", paths::NOTIFY)
}

/// The pipe that a service's stdout and stderr go to.
pub(crate) fn log_pipe(service: &str) -> String {
    format!("{}/{service}", paths::LOG_PIPES)
}

/// The stages, in order.
fn become_service(id: &str) -> Result<Infallible> {
    lift_file_limit().context("limits")?;
    let service = read_description(id).context("description")?;
    let argv = complete(id, service.argv.clone());
    let name = argv.first().context("description: argv is empty")?;
    rustix::process::setsid().context("session")?;
    let mut output = open_output(id).context("output")?;
    limit_group(&service, output.as_mut()).context("limits")?;
    if cgroup::present() {
        cgroup::join(&service.cgroup).context("cgroup")?;
    }
    limit_files(service.nofile, output.as_mut()).context("limits")?;
    set_oom_score(service.oom_score_adj, output.as_mut()).context("oom score")?;
    rustix::process::chdir("/").context("directory /")?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let null = File::options().read(true).open("/dev/null").context("open /dev/null")?;
    // Found before PID 1 is told that all is well.
    rustix::fs::access(name.as_str(), Access::EXEC_OK).at("exec", name)?;

    let program = text(name).context("description: argv")?;
    let argv = argv.iter().map(|arg| text(arg)).collect::<Result<Vec<_>>>().context("description: argv")?;
    let socket = notify_socket(id);
    let env = environment(&service.env, &socket).context("description: env")?;

    rustix::stdio::dup2_stdin(null).context("stdin")?;
    if let Some(output) = output {
        rustix::stdio::dup2_stdout(&output)
            .and_then(|()| rustix::stdio::dup2_stderr(&output))
            .context("output")?;
    }
    signals::reset().context("signals")?;
    if let Some(user) = service.user {
        rights::drop_all(user).context("user")?;
    }
    if service.looked_after {
        repair::look_after(id);
    }
    notify::send(&socket, notices::EXECUTED).context("notify")?;
    // Not std's `exec`: it tries /bin/sh on a file that is no program, and then says that this is not there. All our
    // descriptors but 0 to 2 close on exec.
    Ok(nix::unistd::execve(&program, &argv, &env).at("exec", name)?)
}

/// `NAME=value`, and where PID 1 listens.
fn environment(env: &[(String, String)], socket: &str) -> Result<Vec<CString>> {
    let given = env.iter().map(|(name, value)| format!("{name}={value}"));
    given.chain([format!("NOTIFY_SOCKET={socket}")]).map(|pair| text(&pair)).collect()
}

/// As the kernel takes it.
fn text(text: &str) -> Result<CString> {
    CString::new(text).with_context(|| format!("{text:?} holds a zero byte"))
}

fn read_description(id: &str) -> Result<Service> {
    if id.is_empty() || id.starts_with('.') || id.contains('/') {
        bail!("{id:?} is no service's name");
    }
    let path = description(id);
    let bytes = sys::file::read(Path::new(&path), DESCRIPTION_MAX)?;
    serde_json::from_slice(&bytes).with_context(|| format!("parse {path}"))
}

/// Fills in what is known only now: the node's name, and its address when the config gives a rule for it.
fn complete(id: &str, argv: Vec<String>) -> Vec<String> {
    let subnets = argv.iter().find_map(|arg| arg.strip_prefix(NODE_IP_MARK));
    if subnets.is_none() && !argv.iter().any(|arg| arg == NODE_NAME_MARK) {
        return argv;
    }
    let name = node_name(Path::new(paths::NODE_NAME));
    let full = fill(&argv, &addresses(Path::new(paths::NETWORK)), name.as_deref());
    if let Some(subnets) = subnets
        && !full.iter().any(|arg| arg.starts_with("--node-ip="))
    {
        crate::kmsg::say(&format!(
            "{id}: no address of this node is in {subnets}: started without --node-ip"
        ));
    }
    full
}

/// The node's name as it was at the first call in this boot. One that cannot be kept is still the best there is.
fn node_name(path: &Path) -> Option<String> {
    if let Ok(name) = sys::file::read_line(path) {
        return Some(name);
    }
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    if let Err(error) = sys::file::replace(path, name.as_bytes(), 0o600) {
        crate::kmsg::say(&format!("kubelet: {error:#}; a new host name will rename the pods"));
    }
    Some(name)
}

/// The node's addresses as dhcpcd's hook keeps them, best interface first. A file that is being made, or is damaged,
/// counts as none: the kubelet starts without an address, too.
fn addresses(folder: &Path) -> Vec<IpAddr> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let bytes = files.filter_map(|path| sys::file::read(&path, DESCRIPTION_MAX).ok());
    let states: Vec<State> = bytes.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect();
    best_first(&states).into_iter().flat_map(|lease| &lease.addresses).map(|cidr| cidr.address).collect()
}

/// Opens the service's pipe. Without one (the log writer has none, its output would come back to itself) it keeps
/// PID 1's stdout and stderr: the console.
fn open_output(id: &str) -> sys::Result<Option<File>> {
    let path = log_pipe(id);
    // With NONBLOCK an open without a reader fails at once (ENXIO) where it would otherwise wait for ever.
    match rustix::fs::open(&path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(pipe) => blocking(pipe).at("set blocking", path).map(Some),
        Err(Errno::NOENT | Errno::NXIO) => Ok(None),
        Err(error) => Err(error).at("open", path),
    }
}

/// Programs do not expect EAGAIN from their stdout.
fn blocking(pipe: OwnedFd) -> rustix::io::Result<File> {
    rustix::fs::fcntl_setfl(&pipe, OFlags::empty())?;
    Ok(pipe.into())
}

/// Takes all descriptors that we may have: PID 1, from which the limit comes, may have run out of its own.
fn lift_file_limit() -> rustix::io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
}

/// Sets `RLIMIT_NOFILE`; where that may not be raised (a container), as high as it goes.
fn limit_files(wanted: u64, output: Option<&mut File>) -> io::Result<()> {
    let limit = |n| Rlimit { current: Some(n), maximum: Some(n) };
    match rustix::process::setrlimit(Resource::Nofile, limit(wanted)) {
        Err(Errno::PERM) => {
            let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(wanted);
            note(output, &format!("open files limited to {most}: not permitted to raise that to {wanted}"));
            Ok(rustix::process::setrlimit(Resource::Nofile, limit(most.min(wanted)))?)
        }
        done => Ok(done?),
    }
}

/// Sets what the service's cgroup may take and what is kept for it. Where that cannot be had (a container whose
/// processes stand in the root group) it runs without. Not done by PID 1: the kernel may have to free memory before it
/// returns.
fn limit_group(service: &Service, mut output: Option<&mut File>) -> io::Result<()> {
    if cgroup::present() {
        let memory = limit_memory(service);
        let pids = limit_pids(service);
        let is_limited = memory.is_ok();
        for error in [memory.err(), pids.err()].into_iter().flatten() {
            note(output.as_deref_mut(), &format!("not limited by its cgroup: {error}"));
        }
        if is_limited {
            return Ok(());
        }
    }
    // What strangers can make large is bounded by what the one process may ask for.
    match service.limits.memory_max.filter(|_| service.user.is_some()) {
        Some(most) => {
            let limit = Rlimit { current: Some(most), maximum: Some(most) };
            Ok(rustix::process::setrlimit(Resource::Data, limit)?)
        }
        None => Ok(()),
    }
}

/// `memory.min` counts only as far as the groups above have it too. PID 1's own is set along the way.
fn limit_memory(service: &Service) -> sys::Result<()> {
    let group = &service.cgroup;
    cgroup::make(group, &["memory"])?;
    if let Some(most) = service.limits.memory_max {
        cgroup::limit_memory(group, most)?;
    }
    cgroup::protect_memory(group, service.limits.memory_min)?;
    cgroup::protect_memory(cgroup::SERVICES, ABOVE_MEMORY_MIN)?;
    cgroup::make(cgroup::OURS, &["memory"])?;
    cgroup::protect_memory(cgroup::OURS, PID_1_MEMORY_MIN)
}

fn limit_pids(service: &Service) -> sys::Result<()> {
    let Some(most) = service.limits.pids_max else { return Ok(()) };
    cgroup::make(&service.cgroup, &["pids"])?;
    cgroup::limit_pids(&service.cgroup, most)
}

/// Sets the OOM score; a container may not be permitted to lower it.
fn set_oom_score(score: i16, output: Option<&mut File>) -> sys::Result<()> {
    match process::set_oom_score(score) {
        Err(error) if error.errno() == Some(nix::libc::EACCES) => {
            note(output, &format!("not permitted to set the OOM score to {score}"));
            Ok(())
        }
        done => done,
    }
}

/// Leaves a line in the service's own log: a restriction that the service lives with is no state change.
fn note(output: Option<&mut File>, what: &str) {
    if let Some(output) = output {
        // A pipe that is full or gone is the logger's matter, not the service's.
        let _ = output.write_all(format!("podium: {what}\n").as_bytes());
    }
}

/// The end of a chain loader that has told PID 1 what was wrong.
#[expect(
    clippy::exit,
    reason = "the failure was reported; main would print it a second time, on the console"
)]
fn leave() -> ! {
    std::process::exit(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_address_is_that_of_the_best_interface_with_a_lease() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "eth1.json",
            r#"{"interface":"eth1","metric":1003,"leases":{"dhcp":{"addresses":["10.2.0.9/24"]}}}"#,
        );
        write(
            "eth0.json",
            r#"{"interface":"eth0","metric":1002,"leases":{"dhcp":{"addresses":["10.1.0.9/24"]}}}"#,
        );
        write("cut.json", r#"{"interface":"#);
        let first: IpAddr = "10.1.0.9".parse().unwrap();
        let second: IpAddr = "10.2.0.9".parse().unwrap();
        assert_eq!(addresses(dir.path()), [first, second]);
        assert_eq!(addresses(&dir.path().join("missing")), [] as [IpAddr; 0]);
    }

    #[test]
    fn the_node_keeps_the_name_that_it_had_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-name");
        let first = node_name(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        std::fs::write(&path, "earlier").unwrap();
        assert_eq!(node_name(&path).as_deref(), Some("earlier"));
    }

    #[test]
    fn a_description_is_looked_for_in_its_folder_only() {
        for id in ["", "../config", "a/b", ".hidden"] {
            assert!(read_description(id).unwrap_err().to_string().contains("no service's name"), "{id}");
        }
    }
}
