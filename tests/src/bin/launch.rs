//! What happens around `unshare`, before a namespace's PID 1.
//!
//! `launch [OPTION VALUE ...] PROGRAM [ARGUMENT ...]` does what the options say, in their order, and becomes PROGRAM:
//! `--join PROCS` joins the cgroup of PROCS (its `cgroup.procs`), `--die-with-parent SIGNAL` is sent that signal when
//! who started it ends, `--volume FOLDER` mounts FOLDER onto itself, `--enter ROOT` makes ROOT the root directory,
//! `--files N` takes away all descriptors but N. With `--enter` it does what a
//! container's runtime does before the container's own PID 1: /proc with the host's settings read-only, a /dev with
//! the harmless devices and no kernel log, and nothing of the host's tree in sight. Environment and descriptors 0 to
//! 2 go on to PROGRAM.

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Resource, Rlimit, Signal, pivot_root, set_parent_process_death_signal, setrlimit};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut args = args.as_slice();
    while let [option, value, rest @ ..] = args
        && option.starts_with("--")
    {
        apply(option, value).with_context(|| format!("{option} {value}"))?;
        args = rest;
    }
    let [program, rest @ ..] = args else { bail!("usage: launch [OPTION VALUE ...] PROGRAM [ARGUMENT ...]") };
    Err(Command::new(program).args(rest).exec()).context(program.clone())
}

fn apply(option: &str, value: &str) -> Result<()> {
    match option {
        "--join" => Ok(std::fs::write(value, "0")?),
        // The signal comes when the thread ends that started us, so also when a test hangs and is given up.
        "--die-with-parent" => Ok(set_parent_process_death_signal(Signal::from_named_raw(value.parse()?))?),
        "--volume" => {
            private("/")?;
            bind(Path::new(value), Path::new(value))
        }
        "--enter" => enter(Path::new(value)),
        "--files" => {
            let count = value.parse()?;
            Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: Some(count) })?)
        }
        _ => bail!("no such option"),
    }
}

fn enter(root: &Path) -> Result<()> {
    private("/")?;
    // With the volumes that are mounted below it.
    rustix::mount::mount_bind_recursive(root, root).with_context(|| format!("bind {}", root.display()))?;
    mount_proc(root)?;
    make_dev(root)?;
    let old = root.join(".old");
    std::fs::create_dir_all(&old)?;
    pivot_root(root, &old).context("pivot_root")?;
    std::env::set_current_dir("/")?;
    rustix::mount::unmount("/.old", UnmountFlags::DETACH).context("unmount the host's tree")?;
    Ok(std::fs::remove_dir("/.old")?)
}

/// /proc of the new PID namespace. The host's settings and its sysrq key are out of reach.
fn mount_proc(root: &Path) -> Result<()> {
    let proc = root.join("proc");
    std::fs::create_dir_all(&proc)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", &proc, "proc", flags, None).context("mount /proc")?;
    let settings = proc.join("sys");
    bind(&settings, &settings)?;
    let read_only = flags | MountFlags::BIND | MountFlags::RDONLY;
    rustix::mount::mount_remount(&settings, read_only, "").context("make /proc/sys read-only")?;
    let sysrq = proc.join("sysrq-trigger");
    if sysrq.exists() { bind(Path::new("/dev/null"), &sysrq) } else { Ok(()) }
}

fn make_dev(root: &Path) -> Result<()> {
    let dev = root.join("dev");
    std::fs::create_dir_all(&dev)?;
    rustix::mount::mount("dev", &dev, "tmpfs", MountFlags::NOSUID, None).context("mount /dev")?;
    for name in DEVICES {
        File::create(dev.join(name))?;
        bind(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    for folder in ["pts", "shm", "mqueue"] {
        std::fs::create_dir(dev.join(folder))?;
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    rustix::mount::mount_bind(from, to)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

/// Nothing that is mounted from here on shows on the host.
fn private(path: &str) -> Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(path, flags).with_context(|| format!("make {path} private"))
}
