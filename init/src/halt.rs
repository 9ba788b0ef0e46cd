//! The last acts, and the only way out of PID 1: kill what is left, unmount, sync, wipe for a reset, reboot(2).
//!
//! Everything that can hang in the kernel (unmount, sync, reboot) is done by a child with a limit, so that one
//! broken disk or server cannot keep the machine from going down. What could not be done is said, with who is in
//! the way. Nobody else calls reboot(2), and nothing here returns to the loop.

mod ending;
mod holders;
mod wipe;

pub(crate) use wipe::wipe;

use crate::kmsg;
use crate::sys::process::Reaped;
use crate::sys::{At, cgroup, clock, process, reboot, watchdog};
use anyhow::{Context, Result, bail};
use ending::Ending;
use nix::libc::{EINVAL, EIO, EPERM, SIGKILL, SIGTERM};
use podium_init::clock::Time;
use podium_init::shutdown::{LAST_ACTS, LastActs, Shutdown};
use podium_init::supervisor::Exit;
use podium_init::unmounts::{Target, plan, to_save};
use rustix::mount::{MountFlags, UnmountFlags};
use std::convert::Infallible;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What escaped the supervisor (daemons that left their service) may still end by itself.
const TERM_LIMIT: Duration = Duration::from_secs(2);
/// SIGKILL works at once, or on a process in D state perhaps never.
const KILL_LIMIT: Duration = Duration::from_secs(3);
/// One unmount writes what was not written yet; a slow disk gets time, a dead server does not get for ever.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);
/// Of the time that is left: SIGTERM and then SIGKILL have one of so many shares each, all unmounts together, one
/// unmount, one attempt to make read-only what cannot be unmounted. What is then left is sync's.
const KILL_SHARES: u32 = 3;
/// See [`KILL_SHARES`].
const UNMOUNTS_SHARES: u32 = 2;
/// See [`KILL_SHARES`].
const UNMOUNT_SHARES: u32 = 4;
/// See [`KILL_SHARES`].
const SAVE_SHARES: u32 = 3;
/// Passes without any success before the rest is given up.
const FRUITLESS_PASSES: u32 = 3;
/// Between two such passes: what holds a mount may be on its way out.
const PASS_DELAY: Duration = Duration::from_millis(100);
/// An act that has less is not begun, but for sync, which is worth this much in any case.
const LEAST_LIMIT: Duration = Duration::from_millis(200);
/// Mounts that stay and are named; more are only counted.
const SAID_MAX: usize = 5;
/// sync(2) when PID 1 has failed.
const SYNC_LIMIT: Duration = Duration::from_secs(5);
/// From reboot(2) to the end of the world; drivers have their own shutdown to do.
const REBOOT_LIMIT: Duration = Duration::from_secs(20);
/// How long the reason stays on the console when a boot could not go on.
const HOLD: Duration = Duration::from_secs(30);
/// How often a child is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How a container that may not call reboot(2) says "start me again", as systemd-nspawn has it.
const EXIT_REBOOT: i32 = 133;

/// Ends the machine, or the container. An error (a boot that could not go on) is shown, and then the machine starts
/// again: what was wrong may be gone, and a node that hangs helps nobody.
pub(crate) fn finish(end: Result<(Shutdown, LastActs)>) -> ! {
    let (how, last_acts) = end.unwrap_or_else(|error| {
        kmsg::shout(&format_args!("cannot go on: {error:#}; rebooting in {} s", HOLD.as_secs()));
        std::thread::sleep(HOLD);
        (Shutdown::Reboot, LastActs::new(clock::now() + LAST_ACTS))
    });
    let plan = match how {
        Shutdown::Reset(reset) => wipe::begin(reset),
        Shutdown::Reboot | Shutdown::PowerOff | Shutdown::Halt => wipe::Plan::default(),
    };
    let mut ending = Ending::begin(last_acts);
    let left = ending.left().as_secs();
    kmsg::say(&format!("halt: kill what is left, unmount, write to the disks; at most {left} s"));
    kill_all(&mut ending);
    unmount_all(&mut ending);
    sync(&mut ending);
    kmsg::say(&format!("halt: {how}"));
    match how {
        Shutdown::Reset(reset) => {
            let is_done = wipe::all(reset, &plan);
            last(if is_done { reset.then() } else { Shutdown::Reboot })
        }
        Shutdown::Reboot | Shutdown::PowerOff | Shutdown::Halt => last(how),
    }
}

/// The panic hook of PID 1: report, sync within a limit, reboot. When even this panics, the kernel does it
/// (`kernel.panic`).
pub(crate) fn panicked(info: &PanicHookInfo<'_>) {
    static BEFORE: AtomicBool = AtomicBool::new(false);
    if !BEFORE.swap(true, Ordering::SeqCst) {
        kmsg::shout(&format_args!("PID 1 {info}; rebooting"));
        synced(SYNC_LIMIT, &mut |until| until);
        last(Shutdown::Reboot)
    }
}

/// `init halt …`, the child that does one thing: `umount PATH`, `read-only PATH`, `sync`, `mark LABELS`,
/// `wipe|zero|discard DEVICE`, `reboot|power-off|halt`. PID 1 reads the error number from the exit code.
///
/// # Errors
/// None of these was asked for.
pub(crate) fn act(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["umount", path] => rustix::mount::unmount(*path, UnmountFlags::NOFOLLOW).at("unmount", *path),
        ["read-only", path] => {
            let flags = MountFlags::RDONLY;
            rustix::mount::mount_remount(*path, flags, "").at("remount", *path)
        }
        [wipe::MARK, labels] => leave(wipe::mark(labels).err().unwrap_or(0)),
        [wipe::WIPE, device] => wipe::unmake(device),
        [wipe::ZERO, device] => wipe::forget(device, false),
        [wipe::DISCARD, device] => wipe::forget(device, true),
        ["sync"] => {
            rustix::fs::sync();
            Ok(())
        }
        [how] => {
            let how = shutdown(how).context("init halt is for PID 1 itself")?;
            reboot::end(how).map(|never: Infallible| match never {})
        }
        _ => bail!("init halt is for PID 1 itself"),
    };
    leave(done.map_or_else(|error| error.errno().unwrap_or(EIO), |()| 0))
}

/// Kills all other processes: first what is in the cgroups of services and pods, then everybody who is left.
fn kill_all(ending: &mut Ending) {
    for group in [cgroup::SERVICES, cgroup::PODS] {
        // Without cgroups, and without pods, there is no such group; the next step reaches everybody.
        drop(cgroup::kill(group));
    }
    for (signal, limit) in [(SIGTERM, TERM_LIMIT), (SIGKILL, KILL_LIMIT)] {
        if let Err(error) = process::signal_everybody(signal) {
            log::warn!("halt: {error}");
        }
        // What is on the disks counts for more than a daemon's last words.
        if all_ended(ending, limit) {
            kmsg::say("halt: all processes ended");
            return;
        }
    }
    kmsg::say(&format!("halt: going on without the end of {}", holders::left()));
}

/// Reaps until there is no child any more; orphans become our children.
fn all_ended(ending: &mut Ending, most: Duration) -> bool {
    let mut until = clock::now() + ending.share(KILL_SHARES, most);
    loop {
        match process::reap() {
            Reaped::One(..) => {}
            Reaped::NoChildren => return true,
            Reaped::NoneEnded => {
                until = ending.shortened(until, KILL_SHARES);
                if clock::now() >= until {
                    return false;
                }
                rest();
            }
        }
    }
}

/// Between two looks at a child. The loops that rest have limits, so the watchdog may be fed here.
fn rest() {
    watchdog::feed_now_and_then();
    std::thread::sleep(LOOK);
}

/// Unmounts everything but what we stand on, in passes, as one mount may hold another.
fn unmount_all(ending: &mut Ending) {
    let mut until = clock::now() + ending.share(UNMOUNTS_SHARES, Duration::MAX);
    let mut fruitless = 0;
    // Those of a container's runtime, and those that hang: each keeps a child for ever.
    let (mut refused, mut hung): (Vec<Target>, Vec<Target>) = (Vec::new(), Vec::new());
    loop {
        let targets = mounted().into_iter().filter(|target| !refused.contains(target));
        let (stuck, targets): (Vec<_>, Vec<_>) = targets.partition(|target| hung.contains(target));
        if targets.is_empty() && stuck.is_empty() {
            return unmounted(refused.len());
        }
        until = ending.shortened(until, UNMOUNTS_SHARES);
        if targets.is_empty() || fruitless == FRUITLESS_PASSES || clock::now() >= until {
            return save_all(&[stuck, targets].concat(), ending);
        }
        let mut progress = false;
        for target in targets {
            let left = until.saturating_sub(clock::now());
            // One that hangs leaves time for the others, however many do.
            match act_within(
                &["halt", "umount", &target.path],
                ending,
                UNMOUNT_SHARES,
                UNMOUNT_LIMIT.min(left),
            ) {
                Outcome::Done => progress = true,
                // A container's runtime made it, and it is the runtime's to undo.
                Outcome::Failed(EINVAL | EPERM) if reboot::in_pid_namespace() => refused.push(target),
                Outcome::Failed(_) => {}
                Outcome::Hung => {
                    kmsg::say(&format!(
                        "halt: {} does not unmount ({}), going on without it",
                        target.path, target.what
                    ));
                    hung.push(target);
                }
            }
        }
        if !progress {
            fruitless += 1;
            std::thread::sleep(PASS_DELAY);
        }
    }
}

fn unmounted(refused: usize) {
    match refused {
        0 => kmsg::say("halt: all file systems unmounted"),
        n => kmsg::say(&format!("halt: all file systems unmounted but {n} of the container's runtime")),
    }
}

/// What stays mounted: each disk is saved, in the time that all of them have.
fn save_all(stuck: &[Target], ending: &mut Ending) {
    let disks = to_save(stuck);
    for target in stuck.iter().filter(|target| !target.on_disk).take(SAID_MAX) {
        kmsg::say(&format!(
            "halt: {} stays mounted ({}), held by {}",
            target.path,
            target.what,
            holders::of(Path::new(&target.path))
        ));
    }
    for (done, target) in disks.iter().enumerate() {
        if ending.share(SAVE_SHARES, UNMOUNT_LIMIT) < LEAST_LIMIT {
            kmsg::say(&format!("halt: {} disks more stay mounted", disks.len() - done));
            break;
        }
        save(target, ending);
    }
    kmsg::say(&format!("halt: {} mounts are left, of {} disks", stuck.len(), disks.len()));
}

/// A file system that stays mounted: says why, and makes it read-only if that keeps data from being lost.
fn save(target: &Target, ending: &mut Ending) {
    let path = &target.path;
    let held = format!("halt: {path} stays mounted, held by {}", holders::of(Path::new(path)));
    match act_within(&["halt", "read-only", path], ending, SAVE_SHARES, UNMOUNT_LIMIT) {
        Outcome::Done => kmsg::say(&format!("{held}; now read-only")),
        Outcome::Failed(errno) => {
            let error = std::io::Error::from_raw_os_error(errno);
            kmsg::say(&format!("{held}; not read-only either: {error}"));
        }
        Outcome::Hung => kmsg::say(&format!("{held}; not read-only either: it hangs")),
    }
}

/// What is mounted now, in the order in which it is to be undone.
fn mounted() -> Vec<Target> {
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => plan(&text),
        Err(error) => {
            kmsg::say(&format!("halt: /proc/self/mountinfo: {error}"));
            Vec::new()
        }
    }
}

/// Writes everything to the disks. A container's disks are its host's, which syncs them in its own time.
fn sync(ending: &mut Ending) {
    // The kernel begins to write even if nobody waits for its end.
    let least = clock::now() + LEAST_LIMIT;
    synced(ending.left().max(LEAST_LIMIT), &mut |until| ending.shortened(until, 1).max(least));
}

/// `shortened`: as [`run`] has it.
fn synced(limit: Duration, shortened: &mut dyn FnMut(Time) -> Time) {
    if reboot::in_pid_namespace() {
        return;
    }
    let begun = clock::now();
    match run(&["halt", "sync"], begun + limit, shortened) {
        Outcome::Done => {}
        Outcome::Failed(_) | Outcome::Hung => {
            let took = clock::now().saturating_sub(begun);
            kmsg::say(&format!("halt: sync not done after {:.1} s, going on", took.as_secs_f32()));
        }
    }
}

/// reboot(2): by a child, so that PID 1 can still act when a driver hangs in it; then by PID 1; then by sysrq.
fn last(how: Shutdown) -> ! {
    // What a reset is for was done before.
    let how = if let Shutdown::Reset(reset) = how { reset.then() } else { how };
    if how == Shutdown::Halt
        && let Err(error) = watchdog::give_up()
    {
        kmsg::say(&format!("halt: {error}; the machine will be reset"));
    }
    let verb = VERBS.iter().find(|(_, shutdown)| *shutdown == how).map_or("reboot", |(verb, _)| verb);
    let by_child = helper(&["halt", verb], REBOOT_LIMIT);
    if by_child != Outcome::Done {
        kmsg::say(&format!("halt: {how} by a child: {by_child:?}"));
    }
    match reboot::end(how) {
        Ok(never) => match never {},
        // What follows would reach the host.
        Err(_) if reboot::in_pid_namespace() => leave(if how == Shutdown::Reboot { EXIT_REBOOT } else { 0 }),
        Err(error) => kmsg::say(&format!("halt: {error}; trying sysrq")),
    }
    let command = match how {
        Shutdown::Reboot => "b",
        Shutdown::PowerOff | Shutdown::Halt | Shutdown::Reset(_) => "o",
    };
    if let Err(error) = reboot::sysrq(command) {
        kmsg::say(&format!("halt: {error}; nothing is left to try, switch the machine off"));
    }
    loop {
        std::thread::park();
    }
}

/// The words of `init halt` for the ends.
const VERBS: [(&str, Shutdown); 3] =
    [("reboot", Shutdown::Reboot), ("power-off", Shutdown::PowerOff), ("halt", Shutdown::Halt)];

fn shutdown(verb: &str) -> Option<Shutdown> {
    VERBS.iter().find(|(name, _)| *name == verb).map(|(_, how)| *how)
}

/// How a helper's work went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// With this error number.
    Failed(i32),
    /// Not over at its limit; it was sent SIGKILL and is left behind.
    Hung,
}

/// Runs this binary with `args` as a child, for at most `limit`.
fn helper(args: &[&str], limit: Duration) -> Outcome {
    run(args, clock::now() + limit, &mut |until| until)
}

/// The same for an act that has one of so many shares of the time, and `most` at the most.
fn act_within(args: &[&str], ending: &mut Ending, shares: u32, most: Duration) -> Outcome {
    let until = clock::now() + ending.share(shares, most);
    run(args, until, &mut |until| ending.shortened(until, shares))
}

/// `shortened`: what has become of the time meanwhile.
fn run(args: &[&str], mut until: Time, shortened: &mut dyn FnMut(Time) -> Time) -> Outcome {
    let pid = match process::spawn_ourselves(args) {
        Ok(pid) => pid,
        Err(error) => return Outcome::Failed(error.errno().unwrap_or(EIO)),
    };
    loop {
        match process::reap() {
            Reaped::One(ended, Exit::Code(0)) if ended == pid => return Outcome::Done,
            Reaped::One(ended, Exit::Code(errno)) if ended == pid => return Outcome::Failed(errno),
            Reaped::One(ended, Exit::Signal(_) | Exit::OomKilled) if ended == pid => {
                return Outcome::Failed(EIO);
            }
            Reaped::One(..) => {}
            Reaped::NoChildren => return Outcome::Failed(EIO),
            Reaped::NoneEnded => {
                until = shortened(until);
                if clock::now() >= until {
                    // One in D state does not even hear this.
                    drop(process::signal(pid, SIGKILL));
                    return Outcome::Hung;
                }
                rest();
            }
        }
    }
}

/// Ends a helper, or a container's PID 1 that may do nothing better.
#[expect(clippy::exit, reason = "a helper's error number is its exit code; a container ends with its PID 1")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}
