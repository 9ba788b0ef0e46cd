//! STATE and `/var`: the two data partitions, found on the root's own disk, checked, made and grown, and mounted.
//!
//! What a first boot does (file systems made, last partition grown to the disk) a later one recognises from sysfs and
//! one read of each superblock, and skips. Every step can be cut off by a power loss and is begun again or recovered
//! by the next boot. A partition that holds something unknown is never formatted, a damaged file system never made
//! anew: the node then runs with a tmpfs in its place, and says so.

mod grow;
mod pending;

pub(crate) use pending::write as write_reset;

use crate::boot;
use crate::sys::block::{self, Block};
use crate::sys::{file, mount, tool};
use anyhow::{Context, Result, bail};
use grow::grow_partition;
use podium_init::mounts::{
    DATA_FLAGS, DATA_TMPFS, Mount, NO_ALL, NO_SUID_DEV, Need, STATE_FLAGS, STATE_TMPFS, What,
};
use podium_init::paths;
use podium_init::shutdown::Reset;
use podium_init::superblock::{BEING_MADE, BLANK, Content, Ext4, PROBE, identify};
use rustix::fs::SeekFrom;
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MKE2FS: &str = "/usr/sbin/mke2fs";
const E2FSCK: &str = "/usr/sbin/e2fsck";
const RESIZE2FS: &str = "/usr/sbin/resize2fs";

/// Said once, so that a disk of yesterday and one of in ten years look the same whatever mke2fs defaults to.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                        sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
/// A file system is made no larger than this and grown on line: its metadata is prepared in memory.
const MADE_AT_MOST: u64 = 32 << 30;
/// Free space behind the last partition that is not worth a new partition table, and likewise space in a partition
/// behind its file system: the backup GPT and rounding to block groups take less.
const SLACK: u64 = 4 << 20;
/// File system block size; the first block holds the superblock and is written last.
const BLOCK: usize = 4096;

/// One data partition's job.
struct Role {
    /// Partition label.
    label: &'static str,
    target: &'static str,
    flags: MountFlags,
    /// Stands at the end of the disk and takes all of it.
    last: bool,
    /// tmpfs in its place.
    tmpfs: (MountFlags, &'static str),
    /// What that means.
    without: &'static str,
}

const STATE: Role = Role {
    label: Reset::STATE,
    target: paths::STATE,
    flags: STATE_FLAGS,
    last: false,
    tmpfs: (NO_ALL, STATE_TMPFS),
    without: "a config given on the kernel command line is forgotten at the next boot",
};

const DATA: Role = Role {
    label: Reset::EPHEMERAL,
    target: "/var",
    flags: DATA_FLAGS,
    last: true,
    tmpfs: (NO_SUID_DEV, DATA_TMPFS),
    without: "container images and logs are kept in memory and forgotten at the next boot",
};

/// What became of the data partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brought {
    /// What is in STATE survives a reboot.
    pub has_state: bool,
    /// There is, or may be, one that could not be mounted.
    pub lost_state: bool,
    /// Which they are.
    pub partitions: Partitions,
}

/// The data partitions of this boot. One that could not be mounted is known when it is on the root's own disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Partitions {
    pub state: Option<Block>,
    pub data: Option<Block>,
}

impl Partitions {
    /// The one with this label.
    pub(crate) fn labelled(&self, label: &str) -> Option<&Block> {
        [&self.state, &self.data].into_iter().flatten().find(|block| block.label == label)
    }
}

/// Mounts STATE and `/var`, and ends before that a reset that was not over. Never fails: a tmpfs stands in.
pub(crate) fn mount(container: bool) -> Brought {
    if container {
        volume("/var", 0o755);
        let has_state = volume(paths::STATE, 0o700);
        return Brought { has_state, lost_state: false, partitions: Partitions::default() };
    }
    let mut seen = true;
    let blocks = block::list().unwrap_or_else(|error| {
        log::error!("{error:#}; no disk is looked at");
        seen = false;
        Vec::new()
    });
    let root_disk = block::disk_of(Path::new("/")).unwrap_or_else(|error| {
        log::warn!("{error:#}; data partitions are looked for on all disks");
        None
    });
    let root_disk = root_disk.as_deref();
    let (mut has_state, mut state) = bring(&STATE, &blocks, root_disk);
    let pending = if has_state { pending::read(Path::new(paths::STATE_RESET)) } else { Vec::new() };
    let is_pending = |role: &Role| pending.iter().any(|label| label == role.label);
    let ours = [root_disk, state.as_ref().map(|block| block.disk.as_str())];
    let data_wiped = match find(DATA.label, &blocks, root_disk) {
        _ if !is_pending(&DATA) => Ok(()),
        Ok(block) => pending::wipe(DATA.label, block, &ours),
        // There is none, so nothing of it is left.
        Err(_) if seen && blocks.iter().all(|block| block.label != DATA.label) => Ok(()),
        Err(error) => Err(error),
    };
    if let (true, Some(block)) = (is_pending(&STATE), &state) {
        let unmounted = mount::unmount(Path::new(paths::STATE)).map_err(anyhow::Error::from);
        match unmounted.and_then(|()| pending::wipe(STATE.label, block, &ours)) {
            Ok(()) => (has_state, state) = bring(&STATE, &blocks, root_disk),
            Err(error) => {
                stand_in(&STATE, &error.context("reset: STATE IS STILL NOT WIPED"));
                has_state = false;
            }
        }
    }
    if has_state && !pending.is_empty() {
        pending::keep(Path::new(paths::STATE_RESET), data_wiped.is_err().then_some(DATA.label));
    }
    let data = match data_wiped {
        Ok(()) => bring(&DATA, &blocks, root_disk).1,
        Err(error) => {
            stand_in(&DATA, &error.context("reset: EPHEMERAL IS STILL NOT WIPED; the next boot tries again"));
            find(DATA.label, &blocks, root_disk).ok().cloned()
        }
    };
    // Without any partition of that name the node is one that never keeps a config.
    let lost_state = !has_state && (!seen || blocks.iter().any(|block| block.label == STATE.label));
    Brought { has_state, lost_state, partitions: Partitions { state, data } }
}

/// A container's folder, mounted by its runtime or not.
fn volume(path: &str, mode: u32) -> bool {
    if let Err(error) = file::make_dir(Path::new(path), mode) {
        log::error!("{error:#}");
    }
    let mounted = mount::is_mount_point(Path::new(path)).unwrap_or(false);
    if !mounted {
        log::warn!("{path} is no volume: what is stored there ends with this container");
    }
    mounted
}

/// Whether it is mounted and lasts, and which one it is.
fn bring(role: &Role, blocks: &[Block], root_disk: Option<&str>) -> (bool, Option<Block>) {
    let found = find(role.label, blocks, root_disk);
    match mount::is_mount_point(Path::new(role.target)) {
        Ok(true) => return (true, found.ok().cloned()),
        Ok(false) => {}
        Err(error) => log::error!("{error}"),
    }
    let (block, mounted) = match found {
        Ok(block) => (
            Some(block),
            mount_partition(role, block, blocks)
                .with_context(|| format!("{} on {}", role.label, block.device().display())),
        ),
        Err(error) => (None, Err(error)),
    };
    let Err(error) = mounted else { return (true, block.cloned()) };
    stand_in(role, &error);
    // Another disk's, which was not even mounted, is none of ours.
    (false, block.filter(|block| Some(block.disk.as_str()) == root_disk).cloned())
}

fn stand_in(role: &Role, why: &anyhow::Error) {
    log::error!("{why:#}; a tmpfs stands in: {}", role.without);
    let (flags, data) = role.tmpfs;
    if let Err(error) = boot::make(&new_mount(role, "tmpfs", "tmpfs", flags, data)) {
        log::error!("{error:#}");
    }
}

/// The partition with this label: on the root's disk, or else the only one there is.
fn find<'a>(label: &str, blocks: &'a [Block], root_disk: Option<&str>) -> Result<&'a Block> {
    let all: Vec<&Block> = blocks.iter().filter(|block| block.label == label).collect();
    let own: Vec<&Block> =
        all.iter().copied().filter(|block| Some(block.disk.as_str()) == root_disk).collect();
    match (own.as_slice(), all.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one),
        ([], []) => bail!("no partition has the label {label}; flash the image to a disk to get one"),
        ([], several) | (several, _) => {
            let names: Vec<_> = several.iter().map(|block| block.device().display().to_string()).collect();
            bail!("the label {label} is on {}; take all but one of them away", names.join(" and "))
        }
    }
}

fn mount_partition(role: &Role, block: &Block, blocks: &[Block]) -> Result<()> {
    let grown = if role.last { grow_partition(block, blocks) } else { None };
    let block = grown.as_ref().unwrap_or(block);
    let device = block.device();
    let content = probe(&device)?;
    let name = format!("{} on {}", role.label, device.display());
    match &content {
        Content::Blank | Content::BeingMade => {
            make_file_system(role.label, block)?;
            log::info!("{name}: file system made");
        }
        Content::Ext4(ext4) if ext4.clean => {}
        Content::Ext4(_) => mend(&name, &device, false)?,
        Content::Vfat(_) | Content::Iso9660(_) | Content::Unknown => bail!(
            "holds something that Podium did not make, so it is not formatted; to give it to Podium, \
             write zeros over its first MiB from another system"
        ),
    }
    let source = device.display().to_string();
    let mount = new_mount(role, "ext4", &source, role.flags, "errors=remount-ro");
    if let Err(error) = boot::make(&mount) {
        log::error!("{name}: {error:#}; checking all of it");
        mend(&name, &device, true)?;
        boot::make(&mount)?;
    }
    if role.target == paths::STATE {
        file::make_dir(Path::new(role.target), 0o700)?;
    }
    match probe(&device)? {
        Content::Ext4(Ext4 { size, .. }) if size.saturating_add(SLACK) < block.size => {
            grow_file_system(&name, &source);
        }
        _ => {}
    }
    log::info!("{name}, {} MiB", block.size >> 20);
    Ok(())
}

fn new_mount(role: &Role, kind: &'static str, source: &str, flags: MountFlags, data: &'static str) -> Mount {
    Mount {
        what: What::FileSystem { kind: kind.into(), source: source.to_owned().into() },
        target: role.target.into(),
        flags,
        data: data.into(),
        propagation: MountPropagationFlags::empty(),
        need: Need::Must,
    }
}

/// What is on a device. Its first bytes tell what it has of a file system; zeros are looked at further, so that
/// nothing is taken for blank that begins later.
pub(crate) fn probe(device: &Path) -> Result<Content> {
    let name = || format!("read {}", device.display());
    let mut disk = File::open(device).with_context(name)?.take(BLANK);
    let mut part = Vec::with_capacity(PROBE);
    let mut read = |part: &mut Vec<u8>| -> Result<usize> {
        part.clear();
        disk.by_ref().take(u64::try_from(PROBE)?).read_to_end(part).with_context(name)
    };
    read(&mut part)?;
    let content = identify(&part);
    while content == Content::Blank && read(&mut part)? > 0 {
        if part.iter().any(|byte| *byte != 0) {
            return Ok(Content::Unknown);
        }
    }
    Ok(content)
}

/// Makes an ext4 so that a power cut never leaves half of one: mke2fs works on a sparse file in memory, then what it
/// wrote goes to the partition behind a mark, and the superblock takes the mark's place when all is on disk.
fn make_file_system(label: &str, block: &Block) -> Result<()> {
    let path = format!("{}/{label}.new", paths::RUN);
    let path = Path::new(&path);
    let made =
        make_file(path, label, block.size.min(MADE_AT_MOST)).and_then(|image| put(&image, &block.device()));
    if let Err(error) = std::fs::remove_file(path) {
        log::warn!("{} is left behind: {error}", path.display());
    }
    made.context("make a file system")
}

fn make_file(path: &Path, label: &str, size: u64) -> Result<File> {
    let image = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    image.set_len(size - size % u64::try_from(BLOCK)?)?;
    // Discarding would tell mke2fs that the device reads as zeros, which a used disk does not: the kernel writes the
    // inode tables in the background instead.
    let extended = "nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0";
    let path = path.display().to_string();
    let args = ["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-L", label, "-O", FEATURES];
    tool::must(MKE2FS, &[args.as_slice(), &["-E", extended, &path]].concat(), b"")?;
    Ok(image)
}

/// Copies the parts of `image` that hold data; the first block last.
fn put(image: &File, device: &Path) -> Result<()> {
    let disk =
        OpenOptions::new().write(true).open(device).with_context(|| format!("open {}", device.display()))?;
    let sync = || disk.sync_all().with_context(|| format!("fsync {}", device.display()));
    let mut first = [0; BLOCK];
    image.read_exact_at(&mut first, 0)?;
    let (boot_sectors, superblock) = first.split_at(1024);
    disk.write_all_at(BEING_MADE, 0)?;
    sync()?;
    let mut buffer = vec![0; PROBE];
    let mut at = u64::try_from(BLOCK)?;
    while let Some(data) = seek(image, SeekFrom::Data(at))? {
        let hole = seek(image, SeekFrom::Hole(data))?.context("data without an end")?;
        at = data.max(u64::try_from(BLOCK)?);
        while at < hole {
            let length = usize::try_from(hole - at)?.min(buffer.len());
            let part = buffer.get_mut(..length).context("buffer")?;
            image.read_exact_at(part, at)?;
            disk.write_all_at(part, at)?;
            at += u64::try_from(length)?;
        }
    }
    sync()?;
    disk.write_all_at(superblock, 1024)?;
    sync()?;
    disk.write_all_at(boot_sectors, 0)?;
    sync()
}

/// `None` behind the last data.
fn seek(file: &File, to: SeekFrom) -> Result<Option<u64>> {
    match rustix::fs::seek(file, to) {
        Ok(at) => Ok(Some(at)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error).context("seek"),
    }
}

/// Replays the journal and mends what can be mended without a decision; if that is not enough, everything, because
/// nobody can be asked: what e2fsck cannot put in its place it keeps in lost+found.
fn mend(name: &str, device: &Path, all: bool) -> Result<()> {
    let device = device.display().to_string();
    if !all {
        let ended = tool::run(E2FSCK, &["-p", &device], b"")?;
        match ended.status.code() {
            Some(0) => return Ok(()),
            Some(1..=3) => {
                log::warn!("{name}: repaired: {}", ended.line());
                return Ok(());
            }
            _ => log::error!("{name}: damaged: {}; mending it with e2fsck -fy", ended.line()),
        }
    }
    let ended = tool::run(E2FSCK, &["-fy", &device], b"")?;
    match ended.status.code() {
        Some(0) => Ok(()),
        Some(1..=3) => {
            log::warn!("{name}: mended; what had lost its place is in lost+found: {}", ended.line());
            Ok(())
        }
        _ => bail!("cannot be mended, and is left as it is: {}: {}", ended.status, ended.line()),
    }
}

/// On line, so that a power cut in the middle costs nothing: the kernel journals it.
fn grow_file_system(name: &str, device: &str) {
    match tool::must(RESIZE2FS, &[device], b"") {
        Ok(_) => log::info!("{name}: file system grown"),
        Err(error) => log::error!("{name}: the file system keeps its size: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, disk: &str, number: Option<u32>, label: &str, start: u64, size: u64) -> Block {
        Block { name: name.into(), disk: disk.into(), number, label: label.into(), start, size }
    }

    #[test]
    fn the_roots_disk_wins_and_ambiguity_is_told_with_its_candidates() {
        let a = block("vda4", "vda", Some(4), "STATE", 0, 1);
        let b = block("vdb4", "vdb", Some(4), "STATE", 0, 1);
        let both = [a.clone(), b.clone()];
        assert_eq!(find("STATE", &both, Some("vdb")).unwrap(), &b);
        assert_eq!(find("STATE", &both[..1], Some("vdc")).unwrap(), &a);
        let error = find("STATE", &both, None).unwrap_err().to_string();
        assert!(error.contains("/dev/vda4 and /dev/vdb4"), "{error}");
        assert!(
            find("EPHEMERAL", &both, None).unwrap_err().to_string().contains("no partition has the label")
        );
        let twice = [block("vda5", "vda", Some(5), "STATE", 0, 1), a];
        assert!(find("STATE", &twice, Some("vda")).is_err());
    }

    #[test]
    fn only_the_last_partition_with_free_space_behind_it_is_grown() {
        let disk = block("vda", "vda", None, "", 0, 1 << 30);
        let state = block("vda4", "vda", Some(4), "STATE", 1 << 20, 64 << 20);
        let data = block("vda5", "vda", Some(5), "EPHEMERAL", 65 << 20, (1 << 30) - (66 << 20));
        let blocks = [disk, state.clone(), data.clone()];
        assert_eq!(grow_partition(&data, &blocks), None, "1 MiB is not worth it");
        assert_eq!(grow_partition(&state, &blocks), None, "something stands behind it");
    }

    fn empty_partition(dir: &Path) -> std::path::PathBuf {
        let device = dir.join("partition");
        File::create(&device).unwrap().set_len(64 << 20).unwrap();
        device
    }

    #[test]
    fn a_made_file_system_is_whole_and_clean() {
        let dir = tempfile::tempdir().unwrap();
        let device = empty_partition(dir.path());
        assert_eq!(probe(&device).unwrap(), Content::Blank);
        let image = make_file(&dir.path().join("image"), "STATE", (64 << 20) + 17).unwrap();
        put(&image, &device).unwrap();
        let Content::Ext4(ext4) = probe(&device).unwrap() else { panic!("no ext4") };
        assert_eq!(ext4, Ext4 { label: "STATE".into(), clean: true, size: 64 << 20 });
        tool::must(E2FSCK, &["-fn", &device.display().to_string()], b"").unwrap();
    }

    #[test]
    fn a_cut_off_copy_is_recognised_and_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let device = empty_partition(dir.path());
        // What the partition may hold after a power cut: the mark, and blocks of the copy.
        let cut = OpenOptions::new().write(true).open(&device).unwrap();
        cut.write_all_at(BEING_MADE, 0).unwrap();
        cut.write_all_at(&[7; BLOCK * 3], 4096).unwrap();
        assert_eq!(probe(&device).unwrap(), Content::BeingMade);
        let image = make_file(&dir.path().join("image"), "STATE", 64 << 20).unwrap();
        put(&image, &device).unwrap();
        tool::must(E2FSCK, &["-fn", &device.display().to_string()], b"").unwrap();
    }

    #[test]
    fn damage_is_mended_without_losing_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let device = empty_partition(dir.path());
        let image = make_file(&dir.path().join("image"), "STATE", 64 << 20).unwrap();
        put(&image, &device).unwrap();
        // The first group's free counts, so that its checksum is wrong as well.
        let disk = OpenOptions::new().write(true).open(&device).unwrap();
        disk.write_all_at(&[0xFF; 4], 4096 + 0x0C).unwrap();
        assert!(tool::must(E2FSCK, &["-fn", &device.display().to_string()], b"").is_err());
        mend("STATE", &device, true).unwrap();
        assert!(matches!(probe(&device).unwrap(), Content::Ext4(Ext4 { clean: true, .. })));
        tool::must(E2FSCK, &["-fn", &device.display().to_string()], b"").unwrap();
    }

    #[test]
    fn something_unknown_is_recognised_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let device = empty_partition(dir.path());
        let disk = OpenOptions::new().write(true).open(&device).unwrap();
        disk.write_all_at(b"_BHRfS_M", 65536 + 64).unwrap();
        assert_eq!(probe(&device).unwrap(), Content::Unknown);
    }
}
