//! What a process of a node may do to a file, a mount or the clock.

use crate::node_path;
use crate::processes::signal;
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::time::{ClockId, clock_gettime, clock_settime};
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

const KILL: i32 = 9;
const STOP: i32 = 19;

/// What a foreign process may do to a path of the node; `text` and `number` are what it needs besides.
pub(super) fn change(what: &str, path: &Path, text: &[u8], number: u64) -> Result<()> {
    let other = || -> Result<PathBuf> { Ok(node_path(std::str::from_utf8(text)?)) };
    match what {
        // Aside under a name with a leading dot, as every careful writer does it, then in one step to its place.
        "replace" => {
            let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
            let aside = path.with_file_name(format!(".{name}.new"));
            fs::write(&aside, text)?;
            Ok(fs::rename(&aside, path)?)
        }
        "write in place" => Ok(fs::write(path, text)?),
        "cut" => Ok(File::options().write(true).open(path)?.set_len(number)?),
        // Nobody has it open then, so nobody closes it either.
        "truncate" => Ok(nix::unistd::truncate(path, i64::try_from(number)?)?),
        "write and keep open" => {
            let mut file = File::options().write(true).truncate(true).open(path)?;
            file.write_all(text)?;
            std::mem::forget(file);
            Ok(())
        }
        "touch" => Ok(File::options().write(true).open(path)?.set_modified(SystemTime::now())?),
        "mode" => Ok(fs::set_permissions(path, Permissions::from_mode(u32::try_from(number)?))?),
        "rename to" => Ok(fs::rename(path, other()?)?),
        "make folder" => Ok(fs::create_dir(path)?),
        "remove folder" => Ok(fs::remove_dir(path)?),
        "link to" => Ok(symlink(std::str::from_utf8(text)?, path)?),
        "make FIFO" => Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?),
        "remove" => Ok(fs::remove_file(path)?),
        "remove all" => Ok(fs::remove_dir_all(path)?),
        "use up inodes" => use_up_inodes(path),
        "cover" => Ok(mount("none", path, "tmpfs", MountFlags::empty(), None)?),
        "uncover" => Ok(unmount(path, UnmountFlags::empty())?),
        "mount FUSE" => mount_fuse(path),
        // The end of a session's leader hangs up its terminal, which this makes the first one it opens.
        "lead a session" => {
            rustix::process::setsid()?;
            let _terminal = File::options().read(true).write(true).open(path)?;
            let stat = fs::read_to_string("/proc/self/stat")?;
            // After the name: state, parent, group, session, terminal.
            let terminal = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(4));
            ensure!(terminal.is_some_and(|number| number != "0"), "it is not the session's terminal: {stat}");
            Ok(())
        }
        // In one request: a further one may find no room for its thread meanwhile.
        "set for seconds and kill" => {
            let (value, pid) = std::str::from_utf8(text)?.split_once(' ').context("VALUE PID")?;
            let (pid, before) = (pid.parse()?, fs::read_to_string(path)?);
            fs::write(path, value)?;
            let killed = signal(pid, KILL);
            thread::sleep(Duration::from_secs(number));
            fs::write(path, before.trim())?;
            killed
        }
        "step the clock" => {
            let step: i64 = std::str::from_utf8(text)?.parse()?;
            let mut now = clock_gettime(ClockId::Realtime);
            now.tv_sec += step;
            Ok(clock_settime(ClockId::Realtime, now)?)
        }
        _ => bail!("no such change"),
    }
}

/// Makes a folder and empty files in it until there is no inode for one more.
fn use_up_inodes(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    for number in 0_u64.. {
        match File::create(folder.join(number.to_string())) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
            Err(error) => return Err(error).with_context(|| format!("file {number}")),
        }
    }
    // Empty files take no room: there is some.
    let free = rustix::fs::statvfs(folder)?;
    ensure!(
        free.f_ffree == 0 && free.f_bfree > 0,
        "{} inodes and {} blocks are left",
        free.f_ffree,
        free.f_bfree
    );
    Ok(())
}

/// Mounts a file system whose server is stopped before it has answered anything, and has a process wait for it.
fn mount_fuse(path: &Path) -> Result<()> {
    // The kernel loads the driver when it is asked for the type, and only then is there a device.
    let _ = mount("none", path, "fuse", MountFlags::empty(), None);
    let device = File::options().read(true).write(true).open(node_path("/dev/fuse")).context("/dev/fuse")?;
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    mount("none", path, "fuse", MountFlags::empty(), Some(CString::new(data)?.as_c_str()))?;
    let ourselves = |words: &[&str], input: Stdio| {
        Command::new("/proc/self/exe")
            .args(words)
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    };
    let server = ourselves(&["sleep", "fuse-server"], device.into())?;
    signal(i32::try_from(server.id())?, STOP)?;
    ourselves(&["waits", &path.join("file").to_string_lossy()], Stdio::null())?;
    Ok(())
}
