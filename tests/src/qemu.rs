//! A virtual machine that boots a Podium image: started with a bounded set of options, watched over its console,
//! asked over QMP, ended with its own process id and nothing else.
//!
//! Many can run side by side: each has a temporary folder, a socket and ports of its own (QEMU itself picks a free
//! port, so two never race for one). Should this process be killed, the kernel kills QEMU with it. Dropping a
//! [`Machine`] ends it and removes its files.

use crate::console::{Console, Echo, Line};
use crate::disk::temporary_folder;
use crate::frozen::{Frozen, quoted};
use crate::gate::{Gate, gated};
use crate::markers::UNMOUNTED;
use crate::processor;
pub use crate::processor::{Accel, Clock};
use crate::qmp::Qmp;
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Set to anything: consoles are shown on standard error, for a person who looks for a fault.
const SHOW: &str = "PODIUM_TEST_CONSOLE";

/// QEMU opens its socket within a fraction of a second; a loaded host may need far longer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// After the guest has switched off, QEMU only has to close its files.
const EXIT_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A disk of the machine beside the first.
#[derive(Debug, Clone)]
pub struct ExtraDisk {
    /// The raw file.
    pub path: PathBuf,
    /// Every read of it fails, as of a worn-out medium.
    pub unreadable: bool,
}

/// How a machine is built.
#[derive(Debug, Clone)]
pub struct Options {
    /// The kernel's `bzImage`.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The kernel command line, a word each.
    pub words: Vec<String>,
    /// The first disk (`/dev/vda`), written to.
    pub disk: Option<PathBuf>,
    /// Sectors of the first disk, of 512 bytes, that cannot be read: EIO.
    pub bad_sectors: Vec<u64>,
    /// Further disks, read-only for the guest's sake: `/dev/vdb` and on.
    pub extra_disks: Vec<ExtraDisk>,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub smp: u32,
    /// What executes it.
    pub accel: Accel,
    /// What the guest's clock follows.
    pub clock: Clock,
    /// A serial port, which is its console.
    pub serial: bool,
    /// A card on QEMU's own network, which has DHCP and leads to the host and further.
    pub network: bool,
    /// Host port (0: any free one) on 127.0.0.1 to guest TCP port.
    pub forwards: Vec<(u16, u16)>,
    /// False: a reboot of the guest ends QEMU.
    pub reboots: bool,
    /// Where the console goes beside being kept.
    pub echo: Echo,
    /// What it goes on from: the same machine with another copy of the same disk. `None`: power on.
    pub frozen: Option<Frozen>,
    /// Further arguments of QEMU, last.
    pub arguments: Vec<String>,
}

impl Options {
    /// Two processors, 2 GiB, no disk, nothing forwarded, nothing echoed.
    #[must_use]
    pub fn new(kernel: &Path, initramfs: &Path) -> Self {
        Self {
            kernel: kernel.to_owned(),
            initramfs: initramfs.to_owned(),
            words: Vec::new(),
            disk: None,
            bad_sectors: Vec::new(),
            extra_disks: Vec::new(),
            memory_mib: 2048,
            smp: 2,
            accel: Accel::Auto,
            clock: Clock::Host,
            serial: true,
            network: true,
            forwards: Vec::new(),
            reboots: false,
            echo: if std::env::var_os(SHOW).is_some() { Echo::Stderr } else { Echo::No },
            frozen: None,
            arguments: Vec::new(),
        }
    }

    /// QEMU's arguments but for those that only a started machine has (its socket).
    #[must_use]
    pub fn command_line(&self) -> Vec<String> {
        let mut line = processor::words(self.accel, self.clock, self.smp);
        let mut add = |words: &[&str]| line.extend(words.iter().map(|&word| word.to_owned()));
        add(&["-name", "podium", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]);
        add(&["-m", &self.memory_mib.to_string()]);
        add(&["-kernel", &self.kernel.to_string_lossy(), "-initrd", &self.initramfs.to_string_lossy()]);
        add(&["-append", &self.words.join(" ")]);
        if let Some(disk) = &self.disk {
            let fault = |(number, sector): (usize, &u64)| {
                let rule = format!("file.inject-error.{number}");
                format!("{rule}.event=read_aio,{rule}.iotype=read,{rule}.errno=5,{rule}.sector={sector},")
            };
            let faults: String = self.bad_sectors.iter().enumerate().map(fault).collect();
            let file = if faults.is_empty() { "file" } else { "file.driver=blkdebug,file.image.filename" };
            let drive = format!("if=none,id=disk0,format=raw,discard=unmap,{faults}{file}={}", escaped(disk));
            add(&["-drive", &drive, "-device", "virtio-blk-pci,drive=disk0"]);
        }
        for (number, disk) in self.extra_disks.iter().enumerate() {
            let number = number + 1;
            let faults =
                if disk.unreadable { "file.driver=blkdebug,file.inject-error.0.event=read_aio," } else { "" };
            let file = if disk.unreadable { "file.image.filename" } else { "file" };
            let drive = format!(
                "if=none,id=disk{number},format=raw,readonly=on,{faults}{file}={}",
                escaped(&disk.path)
            );
            add(&["-drive", &drive, "-device", &format!("virtio-blk-pci,drive=disk{number}")]);
        }
        if self.network {
            let forwards =
                self.forwards.iter().map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
            add(&["-netdev", &format!("user,id=net0{}", forwards.collect::<String>())]);
            add(&["-device", "virtio-net-pci,netdev=net0"]);
        }
        add(&["-device", "virtio-rng-pci"]);
        if !self.reboots {
            add(&["-no-reboot"]);
        }
        if self.serial {
            add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        }
        if let Some(frozen) = &self.frozen {
            line.extend(["-incoming".to_owned(), format!("exec:cat {}", quoted(&frozen.memory))]);
        }
        line.extend(self.arguments.iter().cloned());
        line
    }
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    /// What it writes to its serial port, and QEMU's own errors as lines that begin with `qemu: `.
    pub console: Console,
    /// Before its serial port.
    gate: Option<Gate>,
    qmp: Qmp,
    forwards: Vec<(u16, u16)>,
    _folder: TempDir,
}

impl Machine {
    /// Starts QEMU and returns once it answers; the guest's first instructions run by then.
    ///
    /// # Errors
    /// When QEMU is missing or ends at once: its own words are in the error.
    pub fn start(options: &Options) -> Result<Self> {
        let folder = temporary_folder()?;
        let socket = folder.path().join("qmp");
        let started = Instant::now();
        // The guest dies with us even when we are killed; a group of its own keeps a Ctrl-C of ours from it.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args(options.command_line())
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("setpriv (package util-linux) could not be started")?;
        let console = Console::default();
        if let Some(frozen) = &options.frozen {
            console.begin_with(&frozen.console);
        }
        let mut gate = None;
        if let Some(output) = child.stdout.take() {
            let (output, its_gate) = gated(output)?;
            console.follow(output, "", started, options.echo);
            gate = Some(its_gate);
        }
        if let Some(errors) = child.stderr.take() {
            console.follow(errors, "qemu: ", started, options.echo);
        }
        match open_monitor(&mut child, &socket, &console) {
            Ok((qmp, forwards)) => {
                let mut machine = Self { child, console, gate, qmp, forwards, _folder: folder };
                if options.frozen.is_some() {
                    machine.thaw()?;
                }
                Ok(machine)
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// The host's port that leads to the guest's `port`.
    ///
    /// # Errors
    /// When it was not among the options' forwards.
    pub fn port(&self, guest: u16) -> Result<u16> {
        let found = self.forwards.iter().find(|(_, to)| *to == guest);
        found.map(|(host, _)| *host).with_context(|| format!("guest port {guest} is not forwarded"))
    }

    /// Waits for a line from the beginning of the boot on; see [`Console::wait`].
    ///
    /// # Errors
    /// As [`Console::wait`].
    pub fn wait(&self, text: &str, limit: Duration) -> Result<Line> {
        self.console.wait(0, text, limit)
    }

    /// Nobody reads the serial port any more, and it is full. [`Machine::reads_on`] ends that.
    ///
    /// # Errors
    /// When the pipe behind it cannot be written to.
    pub fn stops_reading(&self) -> Result<()> {
        self.gate.as_ref().context("no serial port")?.shut()
    }

    /// The serial port is read again; what comes first are lines of `~`.
    pub fn reads_on(&self) {
        if let Some(gate) = &self.gate {
            gate.open();
        }
    }

    /// QEMU's monitor protocol.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Plugs a card of another make into the running machine: on a network of QEMU's own, with DHCP, in the slot of
    /// that name. The host's port that leads to the guest's `port` by it.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn plug_card(&mut self, slot: &str, port: u16) -> Result<u16> {
        let forward = json!([{"str": format!("tcp:127.0.0.1:0-:{port}")}]);
        let network = json!({"type": "user", "id": "plugged", "net": "10.0.3.0/24", "hostfwd": forward});
        self.qmp.execute("netdev_add", &network)?;
        let card = json!({"driver": "vmxnet3", "netdev": "plugged", "bus": slot, "romfile": ""});
        self.qmp.execute("device_add", &card)?;
        let now = forwards(&self.qmp.monitor("info usernet")?);
        let new = now.iter().find(|pair| pair.1 == port && !self.forwards.contains(pair));
        new.map(|(host, _)| *host).context("QEMU does not tell of the new card's forward")
    }

    /// Presses the power button: an ACPI event, which the guest may heed.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn press_power_button(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Presses the power button and waits until the guest has switched itself off, within `limit`.
    ///
    /// # Errors
    /// When it did not, or left its file systems mounted.
    pub fn power_off(&mut self, limit: Duration) -> Result<()> {
        let from = self.console.mark();
        self.press_power_button()?;
        self.console.wait(from, UNMOUNTED, limit)?;
        self.wait_exit(limit)
    }

    /// Waits until QEMU has ended by itself, without an error.
    ///
    /// # Errors
    /// When it runs on after `limit`, or ended with an error.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited()? {
                ensure!(status.success(), "QEMU: {status}\n{}", self.console.tail(20));
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the machine is still on after {} s:\n{}", limit.as_secs(), self.console.tail(40));
            }
            thread::sleep(POLL);
        }
    }

    /// How QEMU ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Pulls the plug.
    pub fn kill(mut self) {
        end(&mut self.child);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Connects once the socket is there, and asks which ports QEMU has picked.
fn open_monitor(child: &mut Child, socket: &Path, console: &Console) -> Result<(Qmp, Vec<(u16, u16)>)> {
    let deadline = Instant::now() + START_LIMIT;
    let mut qmp = loop {
        match Qmp::connect(socket) {
            Ok(qmp) => break qmp,
            Err(_) if child.try_wait()?.is_some() => {
                // Its last words may still be on their way.
                let words = console.wait_for(0, "the end of QEMU", EXIT_LIMIT, |_| false);
                bail!("QEMU did not start: {:#}", words.err().context("no output")?);
            }
            Err(error) if Instant::now() > deadline => return Err(error.context("QEMU's socket")),
            Err(_) => thread::sleep(POLL),
        }
    };
    let forwards = forwards(&qmp.monitor("info usernet")?);
    Ok((qmp, forwards))
}

/// Reads `TCP[HOST_FORWARD]  13  127.0.0.1 41234  10.0.2.15  8080  0  0`.
fn forwards(usernet: &str) -> Vec<(u16, u16)> {
    let lines = usernet.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["TCP[HOST_FORWARD]", _, _, host, _, guest, ..] => {
                Some((host.parse().ok()?, guest.parse().ok()?))
            }
            _ => None,
        }
    });
    lines.collect()
}

/// Ends the process that we started, if it has not ended by itself, and takes its status.
fn end(child: &mut Child) {
    // Both fail only when it has been waited for already.
    drop(child.kill());
    drop(child.wait());
}

/// A path in a `-drive` option: a comma is written twice.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { accel: Accel::Tcg, ..Options::new(Path::new("/k"), Path::new("/i")) }
    }

    #[test]
    fn ports_are_read_from_qemus_table() {
        let table = "Hub -1 (net0):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
                     TCP[HOST_FORWARD]  13       127.0.0.1 41234       10.0.2.15  8080     0     0\n  \
                     UDP[236 sec]       15       10.0.2.15   123   1.2.3.4   123     0     0\n";
        assert_eq!(forwards(table), [(41234, 8080)]);
    }

    #[test]
    fn the_users_arguments_come_last_and_commas_are_escaped() {
        let options = Options { disk: Some("/a,b".into()), arguments: vec!["-s".to_owned()], ..options() };
        let line = options.command_line();
        assert_eq!(line.last().map(String::as_str), Some("-s"));
        assert!(line.iter().any(|word| word.ends_with("file=/a,,b")), "{line:?}");
    }

    #[test]
    fn a_frozen_machine_goes_on_from_its_memory() {
        let frozen = Frozen { memory: "/it's/memory".into(), console: String::new() };
        let line = Options { frozen: Some(frozen), ..options() }.command_line();
        assert_eq!(line.last().map(String::as_str), Some(r"exec:cat '/it'\''s/memory'"));
    }

    #[test]
    fn a_guest_without_a_reboot_ends_qemu_instead() {
        assert!(options().command_line().contains(&"-no-reboot".to_owned()));
        assert!(!Options { reboots: true, ..options() }.command_line().contains(&"-no-reboot".to_owned()));
    }
}
