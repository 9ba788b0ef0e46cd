//! `podium.config=LABEL=…:/path`: the config on any partition or disk, found by a label.
//!
//! The label is the partition's or its file system's, read from the superblock. The file system is mounted read-only
//! on a folder of our own for as long as the reading takes; nothing on it is executed, followed out of it, or changed.

use crate::disks::probe;
use crate::sys::block::{self, Block};
use crate::sys::module::Store;
use crate::sys::{device, file, mount};
use anyhow::{Context, Result, bail};
use podium_init::mounts::NO_ALL;
use podium_init::paths;
use podium_init::superblock::Content;
use rustix::mount::MountFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the disk may take to appear: a USB stick needs two to three seconds.
const WAIT: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads `path` on the file system with this label, which may still have to appear.
pub(super) fn fetch(label: &str, path: &str) -> Result<Vec<u8>> {
    let mut contents = BTreeMap::new();
    let (device, content) = wait_for(label, &mut contents)?;
    read_from(&device, &content, path).with_context(|| format!("on {}", device.display()))
}

fn wait_for(label: &str, contents: &mut BTreeMap<String, Content>) -> Result<(PathBuf, Content)> {
    let since = Instant::now();
    let mut said = false;
    let mut seen = BTreeSet::new();
    loop {
        let blocks = block::list()?;
        for block in &blocks {
            // A device that cannot be read (a drive without a medium) is looked at again next time.
            if !contents.contains_key(&block.name)
                && let Ok(content) = probe(&block.device())
            {
                contents.insert(block.name.clone(), content);
            }
        }
        let matching = matching(label, &blocks, contents);
        match matching.as_slice() {
            [] if since.elapsed() >= WAIT => bail!("{}", not_found(label, &blocks, contents)),
            [] => {}
            [one] => {
                let content = contents.get(&one.name).cloned().unwrap_or(Content::Unknown);
                return Ok((one.device(), content));
            }
            several => {
                let names: Vec<_> =
                    several.iter().map(|block| block.device().display().to_string()).collect();
                bail!("the label {label} is on {}; take all but one of them away", names.join(" and "));
            }
        }
        load_drivers(&mut seen);
        if !said {
            log::info!("config: waiting up to {} s for a partition with the label {label}", WAIT.as_secs());
            said = true;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The initramfs loads what the root needs; another disk's driver may be in the root alone. `init devices` does all
/// of this, but starts after the config is known.
pub(crate) fn load_drivers(seen: &mut BTreeSet<String>) {
    let present = device::bus_modaliases();
    let new: BTreeSet<&str> = present.difference(seen).map(String::as_str).collect();
    if !new.is_empty() {
        match Store::open() {
            Ok(store) => {
                for (_, error) in store.load(new, "").faults() {
                    log::warn!("{error}");
                }
            }
            Err(error) => log::warn!("config: {error:#}; no drivers are loaded"),
        }
    }
    seen.extend(present);
}

/// Partitions by their own label, or, when there is none, file systems by theirs.
fn matching<'a>(label: &str, blocks: &'a [Block], contents: &BTreeMap<String, Content>) -> Vec<&'a Block> {
    let by_partition: Vec<&Block> = blocks.iter().filter(|block| block.label == label).collect();
    if !by_partition.is_empty() {
        return by_partition;
    }
    let has_label =
        |block: &&Block| contents.get(&block.name).is_some_and(|content| content.label() == label);
    blocks.iter().filter(has_label).collect()
}

fn not_found(label: &str, blocks: &[Block], contents: &BTreeMap<String, Content>) -> String {
    let mut seen: Vec<&str> = blocks.iter().map(|block| block.label.as_str()).collect();
    seen.extend(contents.values().map(Content::label));
    seen.retain(|label| !label.is_empty());
    seen.sort_unstable();
    seen.dedup();
    match seen.as_slice() {
        [] => format!("no partition has the label {label}, and there is no other label either"),
        seen => format!("no partition has the label {label}; there are {}", seen.join(", ")),
    }
}

fn read_from(device: &Path, content: &Content, path: &str) -> Result<Vec<u8>> {
    if let Some(mounted) = mounted_at(device) {
        return file::read_below(mounted, path, super::CONFIG_MAX);
    }
    let Some(kind) = content.kind() else {
        bail!("there is no ext4, vfat or iso9660 file system");
    };
    let target = format!("{}/config-source", paths::RUN);
    let target = Path::new(&target);
    file::make_dir(target, 0o700)?;
    // Read-only alone would still replay an ext4 journal, which is a write.
    let data = if kind == "ext4" { "noload" } else { "" };
    mount::mount(&device.display().to_string(), target, kind, NO_ALL | MountFlags::RDONLY, data)?;
    let read = file::read_below(target, path, super::CONFIG_MAX);
    mount::unmount(target)?;
    std::fs::remove_dir(target).with_context(|| format!("remove {}", target.display()))?;
    read
}

/// Our own partitions are mounted already, and an ext4 cannot be mounted a second time with other options.
fn mounted_at(device: &Path) -> Option<&'static Path> {
    let number = std::fs::metadata(device).ok()?.rdev();
    let mounted = [paths::STATE, "/var", "/"];
    mounted.into_iter().map(Path::new).find(|path| path.metadata().is_ok_and(|meta| meta.dev() == number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, label: &str) -> Block {
        Block { name: name.into(), disk: "vd".into(), number: None, label: label.into(), start: 0, size: 1 }
    }

    fn contents(list: &[(&str, &str)]) -> BTreeMap<String, Content> {
        list.iter().map(|(name, label)| ((*name).into(), Content::Vfat((*label).into()))).collect()
    }

    #[test]
    fn a_partition_label_goes_before_a_file_system_label() {
        let blocks = [block("vda1", "CONFIG"), block("vdb", "")];
        let contents = contents(&[("vda1", ""), ("vdb", "CONFIG")]);
        assert_eq!(matching("CONFIG", &blocks, &contents), [&blocks[0]]);
        assert_eq!(matching("CONFIG", &blocks[1..], &contents), [&blocks[1]]);
        assert!(matching("OTHER", &blocks, &contents).is_empty());
    }

    #[test]
    fn a_missing_label_is_told_with_those_there_are() {
        let blocks = [block("vda1", "ROOT-A"), block("vdb", "")];
        let text = not_found("CONFIG", &blocks, &contents(&[("vdb", "cidata")]));
        assert_eq!(text, "no partition has the label CONFIG; there are ROOT-A, cidata");
    }
}
