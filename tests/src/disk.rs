//! Disks of a machine under test: a private copy of the image's to boot from, small ones that carry a config, and
//! what a disk holds once the machine is off.
//!
//! Nothing is mounted and nothing needs root: partitions are found with the `gpt` crate, their file systems are
//! checked and read where they lie, with e2fsprogs' `FILE?offset=BYTES`.

use anyhow::{Context, Result, bail, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The image's disk is smaller: the last partition has to be grown at first boot, as on any real disk.
pub const DISK_BYTES: u64 = 6 << 30;
/// Enough for a config of any size that is still read, and for one that is not (50 MB).
const CONFIG_DISK_BYTES: u64 = 64 << 20;
/// What is copied at a time.
const CHUNK: usize = 1 << 20;

/// Where the log writer keeps its files, from the root of EPHEMERAL.
const LOGS: &str = "/log/podium";

/// A raw disk file; a temporary one goes away with this value.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    _folder: Option<TempDir>,
}

impl Disk {
    /// A sparse private copy of `image`, grown to [`DISK_BYTES`].
    ///
    /// # Errors
    /// When the copy fails, e.g. for want of space.
    pub fn temporary(image: &Path) -> Result<Self> {
        let folder = temporary_folder()?;
        let path = folder.path().join("disk.raw");
        copy(image, &path)?;
        Ok(Self { path, _folder: Some(folder) })
    }

    /// The disk in `path`, copied from `image` when it is not there yet, so that it keeps what a machine stored.
    ///
    /// # Errors
    /// When the copy fails; a half-made one is removed.
    pub fn kept(path: &Path, image: &Path) -> Result<Self> {
        if !path.exists() {
            copy(image, path)?;
        }
        Ok(Self { path: path.to_owned(), _folder: None })
    }

    /// Writes a copy to `path`; the machine must be off.
    ///
    /// # Errors
    /// When the copy fails; a half-made one is removed.
    pub fn save(&self, path: &Path) -> Result<()> {
        copy(&self.path, path)
    }

    /// A small ext4 disk without partitions, labelled `label`, that holds `files` as name and content.
    ///
    /// # Errors
    /// When `mke2fs` fails.
    pub fn with_files(label: &str, files: &[(&str, &[u8])]) -> Result<Self> {
        let folder = temporary_folder()?;
        let tree = folder.path().join("tree");
        for (name, content) in files {
            let file = tree.join(name);
            fs::create_dir_all(file.parent().unwrap_or(&tree))?;
            fs::write(&file, content).with_context(|| file.display().to_string())?;
        }
        let path = folder.path().join("config.raw");
        File::create(&path)?.set_len(CONFIG_DISK_BYTES)?;
        let mut mke2fs = tool("mke2fs");
        mke2fs.args(["-q", "-t", "ext4", "-m", "0", "-L", label, "-d"]).arg(&tree).arg(&path);
        output(&mut mke2fs)?;
        Ok(Self { path, _folder: Some(folder) })
    }

    /// A small FAT disk without partitions, as USB sticks are, labelled `label`, with one file in its root.
    ///
    /// # Errors
    /// When `mkfs.vfat` or `mcopy` fails.
    pub fn with_fat_file(label: &str, name: &str, content: &[u8]) -> Result<Self> {
        let folder = temporary_folder()?;
        let source = folder.path().join("content");
        fs::write(&source, content)?;
        let path = folder.path().join("stick.raw");
        File::create(&path)?.set_len(CONFIG_DISK_BYTES)?;
        output(tool("mkfs.vfat").args(["-n", label]).arg(&path))?;
        output(tool("mcopy").arg("-i").arg(&path).arg(&source).arg(format!("::/{name}")))?;
        Ok(Self { path, _folder: Some(folder) })
    }

    /// The one in a temporary folder, which goes away with this value.
    pub(crate) fn in_folder(path: PathBuf, folder: TempDir) -> Self {
        Self { path, _folder: Some(folder) }
    }

    /// The raw file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last `lines` of each service's log, for a failure's report: what a machine that is gone had told there.
    /// What it had not yet written to its disk is missing.
    #[must_use]
    pub fn logs(&self, lines: usize) -> String {
        let read = || -> Result<String> {
            let data = self.partition("EPHEMERAL")?;
            // What the file system's journal holds is put in its place, as the next boot would do. When it cannot,
            // there is less to read.
            drop(output(tool("e2fsck").args(["-p", &data.target()])));
            let mut text = String::new();
            for name in data.list(LOGS)?.iter().filter(|name| name.ends_with(".log")) {
                let log = String::from_utf8_lossy(&data.read(&format!("{LOGS}/{name}"))?).into_owned();
                let all: Vec<&str> = log.lines().collect();
                text += &format!("--- {name}\n{}\n", all[all.len().saturating_sub(lines)..].join("\n"));
            }
            Ok(text)
        };
        read().unwrap_or_else(|error| format!("no service logs: {error:#}\n"))
    }

    /// The partition labelled `label`, for a look at its file system. The machine must be off.
    ///
    /// # Errors
    /// When the disk has no readable GPT or no such partition.
    pub fn partition(&self, label: &str) -> Result<Partition> {
        let disk = GptConfig::new()
            .writable(false)
            .open(&self.path)
            .with_context(|| format!("{}: partition table", self.path.display()))?;
        let block = LogicalBlockSize::Lb512;
        let found = disk.partitions().values().find(|partition| partition.name == label);
        let found = found.with_context(|| format!("{}: no partition {label}", self.path.display()))?;
        let start = found.bytes_start(block)?;
        let bytes = found.bytes_len(block)?;
        Ok(Partition { label: label.to_owned(), path: self.path.clone(), start, bytes })
    }
}

/// One partition of a disk that no machine uses.
#[derive(Debug)]
pub struct Partition {
    pub(crate) label: String,
    pub(crate) path: PathBuf,
    pub(crate) start: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Partition {
    /// What e2fsprogs call it.
    pub(crate) fn target(&self) -> String {
        format!("{}?offset={}", self.path.display(), self.start)
    }

    /// Copies its bytes as they are now into a file of their own, holes kept: that copy, and a hash of it. The machine
    /// may be on, and must be stopped.
    ///
    /// # Errors
    /// When the copy fails.
    pub fn copy_to(&self, path: &Path) -> Result<(Self, u64)> {
        let (from, to) = (File::open(&self.path)?, File::create(path)?);
        to.set_len(self.bytes)?;
        let mut hasher = DefaultHasher::new();
        let (mut at, end) = (self.start, self.start + self.bytes);
        // From one run of data to the next.
        loop {
            let data = match seek(&from, SeekFrom::Data(at)) {
                Ok(data) if data < end => data,
                // It lies behind the partition, or there is no more at all.
                Ok(_) | Err(Errno::NXIO) => break,
                Err(error) => return Err(error).context("look for data"),
            };
            at = seek(&from, SeekFrom::Hole(data))?.min(end);
            let mut bytes = vec![0; usize::try_from(at - data)?];
            from.read_exact_at(&mut bytes, data)?;
            (data, &bytes).hash(&mut hasher);
            to.write_all_at(&bytes, data - self.start)?;
        }
        let copy = Self { label: self.label.clone(), path: path.to_owned(), start: 0, bytes: self.bytes };
        Ok((copy, hasher.finish()))
    }

    /// Replays the ext4 file system's journal, as the next mount does.
    ///
    /// # Errors
    /// When `e2fsck` finds more than that to mend, or cannot mend it.
    pub fn replay(&self) -> Result<()> {
        if self.start == 0 {
            return self.mend();
        }
        // e2fsck opens the file system anew after it has read the journal, and forgets the offset then.
        let folder = temporary_folder()?;
        let (copy, _) = self.copy_to(&folder.path().join("partition"))?;
        copy.mend()?;
        let (from, to) =
            (File::open(&copy.path)?, OpenOptions::new().read(true).write(true).open(&self.path)?);
        let (mut new, mut old) = (vec![0; CHUNK], vec![0; CHUNK]);
        for at in (0..self.bytes).step_by(CHUNK) {
            let length = usize::try_from((self.bytes - at).min(CHUNK as u64))?;
            from.read_exact_at(&mut new[..length], at)?;
            to.read_exact_at(&mut old[..length], self.start + at)?;
            if new != old {
                to.write_all_at(&new[..length], self.start + at)?;
            }
        }
        Ok(())
    }

    fn mend(&self) -> Result<()> {
        let done = tool("e2fsck").args(["-p", &self.target()]).output().context("e2fsck")?;
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        // 1: something was mended, such as a file that was removed while it was open.
        ensure!(
            done.status.code().is_some_and(|code| code <= 1),
            "{}: e2fsck: {}: {told}",
            self.label,
            done.status
        );
        Ok(())
    }

    /// Checks the ext4 file system without changing it: it must have been unmounted, and be without a fault.
    ///
    /// # Errors
    /// What `e2fsck` or the superblock says.
    pub fn check_clean(&self) -> Result<()> {
        let superblock = output(tool("dumpe2fs").args(["-h", &self.target()]))?;
        ensure!(
            superblock.contains("Filesystem state:         clean") && !superblock.contains("needs_recovery"),
            "{}: was not unmounted:\n{superblock}",
            self.label
        );
        output(tool("e2fsck").args(["-f", "-n", &self.target()])).map(drop)
    }

    /// The content of a file of the ext4 file system, e.g. `/log/podium/kubelet.log`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let folder = temporary_folder()?;
        let copy = folder.path().join("file");
        output(tool("debugfs").args(["-R", &format!("dump {path} {}", copy.display()), &self.target()]))?;
        fs::read(&copy).with_context(|| format!("{}: no file {path}", self.label))
    }

    /// Replaces a file of the ext4 file system, as a fault or a person with a screwdriver would.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn replace(&self, path: &str, content: &[u8]) -> Result<()> {
        let folder = temporary_folder()?;
        let source = folder.path().join("content");
        fs::write(&source, content)?;
        let commands = folder.path().join("commands");
        fs::write(&commands, format!("rm {path}\nwrite {} {path}\n", source.display()))?;
        output(tool("debugfs").arg("-w").arg("-f").arg(&commands).arg(self.target()))?;
        ensure!(self.read(path)? == content, "{}: {path} was not written", self.label);
        Ok(())
    }

    /// The names in a folder of the ext4 file system, without `.` and `..`, sorted.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        // A line of `ls -p` is /inode/mode/uid/gid/name/size/
        let listing = output(tool("debugfs").args(["-R", &format!("ls -p {path}"), &self.target()]))?;
        let names = listing.lines().filter_map(|line| line.split('/').nth(5));
        let mut names: Vec<String> =
            names.filter(|name| *name != "." && *name != "..").map(str::to_owned).collect();
        ensure!(!listing.trim().is_empty(), "{}: no folder {path}", self.label);
        names.sort();
        Ok(names)
    }
}

/// A folder of our own below `$TMPDIR`, removed with its value.
///
/// # Errors
/// When it cannot be made.
pub fn temporary_folder() -> Result<TempDir> {
    tempfile::Builder::new().prefix("podium-").tempdir().context("a temporary folder")
}

/// `cp` keeps holes and shares blocks where the file system can; a plain copy would write gigabytes of zeros.
fn copy(image: &Path, path: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["--sparse=always", "--reflink=auto", "--"]).arg(image).arg(path);
    let made = output(&mut cp).and_then(|_| {
        let file = OpenOptions::new().write(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(file.set_len(bytes.max(DISK_BYTES))?)
    });
    if made.is_err() && path.exists() {
        fs::remove_file(path).with_context(|| path.display().to_string())?;
    }
    made
}

/// A program that Debian keeps in /usr/sbin, which is not on everybody's PATH.
pub(crate) fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    command
}

/// Standard output of a command that must end well; its whole output is in the error otherwise.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done =
        command.output().with_context(|| format!("{name}: is it installed? `cargo xtask doctor` tells"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        bail!("{name}: {}\n{}{}", done.status, text.trim_end(), errors.trim_end());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage;

    /// A disk with one ext4 partition that holds these files.
    fn partitioned(label: &str, files: &[(&str, &[u8])]) -> Disk {
        let source = Disk::with_files(label, files).unwrap();
        let disk = damage::with_partition(label).unwrap();
        let seek = format!("seek={}", disk.partition(label).unwrap().start);
        let (from, to) = (format!("if={}", source.path().display()), format!("of={}", disk.path.display()));
        let dd = ["bs=64k", "oflag=seek_bytes", "conv=notrunc,sparse", &seek, &from, &to];
        output(Command::new("dd").args(dd)).unwrap();
        disk
    }

    #[test]
    fn a_partitions_files_are_read_where_they_lie() {
        let disk = partitioned("DATA", &[("folder/hello", b"world")]);
        let partition = disk.partition("DATA").unwrap();
        assert_eq!(partition.bytes, CONFIG_DISK_BYTES);
        partition.check_clean().unwrap();
        assert_eq!(partition.read("/folder/hello").unwrap(), b"world");
        assert_eq!(partition.list("/folder").unwrap(), ["hello"]);
        partition.replace("/folder/hello", b"changed").unwrap();
        assert_eq!(partition.read("/folder/hello").unwrap(), b"changed");
        partition.check_clean().unwrap();
        let copy = disk.path().with_extension("copy");
        let (other, hash) = partition.copy_to(&copy).unwrap();
        other.replay().unwrap();
        assert_eq!(other.read("/folder/hello").unwrap(), b"changed");
        other.replace("/folder/hello", b"more").unwrap();
        assert_eq!(partition.copy_to(&copy).unwrap().1, hash, "the same bytes have the same hash");
        assert!(partition.read("/missing").is_err());
        assert!(partition.list("/missing").is_err());
        assert!(disk.partition("OTHER").is_err());
    }

    #[test]
    fn a_fat_disk_holds_its_file() {
        let disk = Disk::with_fat_file("STICK", "one.yaml", b"text").unwrap();
        let listing = output(tool("mdir").arg("-i").arg(disk.path()).arg("::/")).unwrap();
        assert!(listing.contains("STICK") && listing.contains("one.yaml"), "{listing}");
    }

    #[test]
    fn service_logs_are_told_from_their_end_and_their_absence_too() {
        let folder = temporary_folder().unwrap();
        let disk = partitioned(
            "EPHEMERAL",
            &[("log/podium/kubelet.log", b"1\n2\n3\n"), ("log/podium/x.log.1", b"x")],
        );
        assert_eq!(disk.logs(2), "--- kubelet.log\n2\n3\n");
        let blank = folder.path().join("blank");
        fs::write(&blank, [0; 4096]).unwrap();
        assert!(Disk { path: blank, _folder: Some(folder) }.logs(2).starts_with("no service logs: "));
    }

    #[test]
    fn a_damaged_file_system_is_found() {
        let disk = partitioned("DATA", &[("folder/hello", b"world")]);
        let partition = disk.partition("DATA").unwrap();
        output(tool("debugfs").args(["-w", "-R", "clri /folder/hello", &partition.target()])).unwrap();
        assert!(partition.check_clean().is_err());
    }

    #[test]
    fn a_kept_disk_is_copied_once() {
        let folder = temporary_folder().unwrap();
        let (image, kept) = (folder.path().join("image"), folder.path().join("kept"));
        fs::write(&image, b"image").unwrap();
        Disk::kept(&kept, &image).unwrap();
        assert_eq!(fs::metadata(&kept).unwrap().len(), DISK_BYTES);
        fs::write(&kept, b"changed").unwrap();
        Disk::kept(&kept, &image).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"changed");
        assert!(Disk::temporary(&folder.path().join("missing")).is_err());
    }
}
