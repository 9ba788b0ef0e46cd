//! The watchdog's device. Once it is open it stays so to the very end: closing it without a word leaves it armed, and
//! with the word switches it off.

use super::{At, Result, clock, ioctl};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Of PID 1's whole life, for the last acts feed it too, which know nothing of the loop.
static DEVICE: Mutex<Option<OwnedFd>> = Mutex::new(None);
/// Seconds since boot at the last feed.
static FED: AtomicU64 = AtomicU64::new(0);
/// Any byte feeds it, but this one.
const FOOD: &[u8] = b"\0";
/// The next close then switches it off, where the driver permits that.
const MAGIC_CLOSE: &[u8] = b"V";

/// Opens the device, which arms it, and sets its timeout. `Ok(None)`: there is no such device. The answer is the timeout
/// that it has now: one that refuses `wanted` keeps its own, which is `wanted` only where nobody can tell.
///
/// # Errors
/// Somebody else has it open (EBUSY), or it may not be opened.
pub(crate) fn arm(path: &str, wanted: Duration) -> Result<Option<Duration>> {
    // A FIFO, as in tests, is opened without waiting for a reader.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let device = match rustix::fs::open(path, flags, Mode::empty()) {
        // ENODEV, ENXIO: a node without a driver.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV | rustix::io::Errno::NXIO) => {
            return Ok(None);
        }
        opened => opened.at("open", path)?,
    };
    let seconds = i32::try_from(wanted.as_secs()).unwrap_or(i32::MAX);
    let seconds = match ioctl::set_watchdog_timeout(&device, seconds) {
        Ok(seconds) => u64::try_from(seconds).ok(),
        Err(_) => attribute(path, "timeout").and_then(|text| text.parse().ok()),
    };
    *lock() = Some(device);
    Ok(Some(seconds.map_or(wanted, Duration::from_secs)))
}

/// What the driver calls itself.
pub(crate) fn identity(path: &str) -> Option<String> {
    attribute(path, "identity")
}

/// What sysfs tells of a device.
fn attribute(path: &str, name: &str) -> Option<String> {
    let device = Path::new(path).file_name()?;
    super::file::read_line(&Path::new("/sys/class/watchdog").join(device).join(name)).ok()
}

fn lock() -> MutexGuard<'static, Option<OwnedFd>> {
    DEVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Feeds it, if there is one.
///
/// # Errors
/// The device is gone.
pub(crate) fn feed() -> Result<()> {
    FED.store(clock::now().as_secs(), Ordering::Relaxed);
    put(FOOD)
}

/// The same from loops with limits of their own, at most once a second.
pub(crate) fn feed_now_and_then() {
    if FED.load(Ordering::Relaxed) != clock::now().as_secs() {
        // Nothing can be done about one that is gone, at the end of the node.
        drop(feed());
    }
}

/// Switches the device off and closes it, where the driver permits that: for a machine that is to stand still.
///
/// # Errors
/// The device is gone.
pub(crate) fn give_up() -> Result<()> {
    put(MAGIC_CLOSE)?;
    drop(lock().take());
    Ok(())
}

fn put(bytes: &[u8]) -> Result<()> {
    match lock().as_ref() {
        None => Ok(()),
        Some(device) => rustix::io::write(device, bytes).map(drop).at("feed", "the watchdog"),
    }
}
