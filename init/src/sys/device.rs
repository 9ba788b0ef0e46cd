//! Devices: what sysfs lists, what the kernel announces, what the power button says.

use super::{At, Result, file};
use podium_init::blockdev::{Filesystem, Gpt};
use podium_init::uevent::Uevent;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recvfrom, sockopt};
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How deep /sys/devices is walked; the deepest real paths (a USB device behind hubs) have about 20 steps.
const DEPTH: u32 = 40;
/// More different modaliases than any machine has.
const MOST_MODALIASES: usize = 16 * 1024;
/// Bytes that the kernel may queue for us: some thousand events, as when a shelf of disks is switched on.
const QUEUE: usize = 2 << 20;
/// The kernel's largest message (`UEVENT_BUFFER_SIZE`) is 2 KiB; a longer one is not for us.
const MESSAGE: usize = 8 << 10;
/// The netlink group of the kernel's own messages.
const KERNEL_GROUP: u32 = 1;

/// The modaliases of all devices on a bus. It takes milliseconds, where the walk of [`all_modaliases`] takes tens.
pub(crate) fn bus_modaliases() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in entries(Path::new("/sys/bus")) {
        for device in entries(&bus.join("devices")) {
            take_modalias(&device, &mut found);
        }
    }
    found
}

/// The modaliases of all devices, also of those that are on no bus, such as input devices and the machine itself.
pub(crate) fn all_modaliases() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/devices"), DEPTH, &mut found);
    found
}

/// Devices come and go while they are listed: what cannot be read is not there.
fn walk(folder: &Path, depth: u32, found: &mut BTreeSet<String>) {
    let Ok(list) = std::fs::read_dir(folder) else { return };
    for entry in list.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, found),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => take_modalias(folder, found),
            _ => {}
        }
    }
}

fn take_modalias(device: &Path, found: &mut BTreeSet<String>) {
    if let Ok(modalias) = file::read_line(&device.join("modalias"))
        && !modalias.is_empty()
        && found.len() < MOST_MODALIASES
    {
        found.insert(modalias);
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The root file system that a partition holds, if it is one that we know.
///
/// # Errors
/// The device cannot be read.
pub(crate) fn root_filesystem(device: &Path) -> Result<Option<Filesystem>> {
    let mut start = [0; Filesystem::PROBE];
    File::open(device).and_then(|file| file.read_exact_at(&mut start, 0)).at("read", device)?;
    Ok(Filesystem::probe(&start))
}

/// The GUID of partition `number` in the GPT of a disk; `None`: it has no GPT, or no such partition.
///
/// # Errors
/// The disk cannot be read.
pub(crate) fn partition_uuid(disk: &Path, number: u32) -> Result<Option<String>> {
    let file = File::open(disk).at("open", disk)?;
    // The header is in the second block, and disks have blocks of 512 or 4096 bytes.
    for block in [512_u64, 4096] {
        let mut header = [0; Gpt::HEADER];
        file.read_exact_at(&mut header, block).at("read", disk)?;
        if let Some(offset) = Gpt::parse(&header, block).and_then(|gpt| gpt.entry(number)) {
            let mut entry = [0; Gpt::ENTRY];
            file.read_exact_at(&mut entry, offset).at("read", disk)?;
            return Ok(Gpt::uuid(&entry));
        }
    }
    Ok(None)
}

/// The kernel's announcements of devices.
#[derive(Debug)]
pub(crate) struct Uevents {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// What [`Uevents::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// A device.
    Event(Uevent),
    /// A message that is not the kernel's, or not about a device.
    Other,
    /// The queue ran over: some messages are lost.
    Lost,
    /// Nothing waits.
    Nothing,
}

impl Uevents {
    /// Listens from now on.
    ///
    /// # Errors
    /// No descriptor left, or a network namespace that is not the machine's.
    pub(crate) fn listen() -> Result<Self> {
        let name = "the kernel's device events";
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT));
        let socket = socket.at("open a socket for", name)?;
        // Beyond the sysctl's limit, as root may; with a smaller queue the loss of messages is noticed and made good.
        if let Err(error) = sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE) {
            log::debug!("queue of {name}: {error}");
        }
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP)).at("listen to", name)?;
        Ok(Self { socket, buffer: vec![0; MESSAGE] })
    }

    /// The next message; never blocks.
    ///
    /// # Errors
    /// The socket is broken.
    pub(crate) fn next(&mut self) -> Result<Next> {
        let (length, from) = match recvfrom(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((length, _, from)) => (length, from),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Next::Nothing),
            Err(Errno::NOBUFS) => return Ok(Next::Lost),
            Err(error) => return Err(error).at("receive", "the kernel's device events"),
        };
        // Programs may write to each other on this socket; the kernel's address is 0.
        let is_kernel =
            from.and_then(|from| SocketAddrNetlink::try_from(from).ok()).is_some_and(|from| from.pid() == 0);
        let event = self.buffer.get(..length).filter(|_| is_kernel).and_then(Uevent::parse);
        Ok(event.map_or(Next::Other, Next::Event))
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The numbers of the event devices that are there now.
pub(crate) fn event_devices() -> Vec<u32> {
    let number = |path: PathBuf| path.file_name()?.to_str()?.strip_prefix("event")?.parse().ok();
    entries(Path::new("/sys/class/input")).filter_map(number).collect()
}

/// What its driver calls an event device's source.
///
/// # Errors
/// It is gone.
pub(crate) fn event_device_name(number: u32) -> anyhow::Result<String> {
    file::read_line(&PathBuf::from(format!("/sys/class/input/event{number}/device/name")))
}

/// Opens an event device for reading without blocking.
///
/// # Errors
/// It is gone.
pub(crate) fn open_event_device(number: u32) -> Result<OwnedFd> {
    let path = format!("/dev/input/event{number}");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(&path, flags, Mode::empty()).at("open", path)
}

/// The next bytes of an event device; none when nothing waits.
///
/// # Errors
/// It is gone (ENODEV).
pub(crate) fn read_events<'a>(device: &OwnedFd, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    match rustix::io::read(device, &mut *buffer) {
        Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
        Err(Errno::AGAIN | Errno::INTR) => Ok(&[]),
        Err(error) => Err(error).at("read", "an event device"),
    }
}

/// Tells PID 1 that the power button was pressed. SIGPWR is the request to power off that needs no real-time signal.
///
/// # Errors
/// We are not root.
pub(crate) fn tell_pid1_power() -> Result<()> {
    rustix::process::kill_process(Pid::INIT, Signal::POWER).at("signal", "process 1")
}
