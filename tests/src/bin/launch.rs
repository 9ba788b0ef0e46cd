//! What happens around `unshare`, before a namespace's PID 1.
//!
//! `launch [--join PROCS] [--enter ROOT] PROGRAM [ARGUMENT ...]` joins the cgroup of PROCS (its `cgroup.procs`), makes
//! ROOT the root directory, and becomes PROGRAM. With `--enter` it does what a container's runtime does before the
//! container's own PID 1: /proc with the host's settings read-only, a /dev with the harmless devices and no kernel
//! log, and nothing of the host's tree in sight. Environment and descriptors 0 to 2 go on to PROGRAM.

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::pivot_root;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut args = args.as_slice();
    if let ["--join", procs] = first_two(args) {
        std::fs::write(procs, "0").with_context(|| format!("join {procs}"))?;
        args = &args[2..];
    }
    if let ["--enter", root] = first_two(args) {
        enter(Path::new(root))?;
        args = &args[2..];
    }
    let [program, rest @ ..] = args else {
        bail!("usage: launch [--join PROCS] [--enter ROOT] PROGRAM [ARGUMENT ...]")
    };
    Err(Command::new(program).args(rest).exec()).context(program.clone())
}

fn first_two(args: &[String]) -> [&str; 2] {
    match args {
        [first, second, ..] => [first, second],
        _ => [""; 2],
    }
}

fn enter(root: &Path) -> Result<()> {
    private("/")?;
    bind(root, root)?;
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
