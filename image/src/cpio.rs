//! Writes a tree as a newc cpio archive, the format of the initramfs.
//!
//! The same tree gives the same bytes: inode numbers count from one, times are zero, everything is root's.

use crate::tree::{Node, Tree};
use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_000;
const CHARACTER: u32 = 0o020_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Of everything that is no device.
const NO_DEVICE: (u32, u32) = (0, 0);

/// A character device, for a tree that is used before anybody mounts devtmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Without leading slash; its folder is in the tree.
    pub path: &'static str,
    /// Major and minor number.
    pub number: (u32, u32),
}

/// The archive's bytes.
pub fn write(tree: &Tree) -> Result<Vec<u8>> {
    write_with(tree, &[])
}

/// The same with devices, which only root may use.
pub fn write_with(tree: &Tree, devices: &[Device]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let mut number = 0;
    for (path, node) in tree.iter() {
        number += 1;
        let (mode, links, data) = match node {
            Node::Folder { mode } => (FOLDER | mode, 2, Vec::new()),
            Node::File { mode, content } => (FILE | mode, 1, content.read()?),
            Node::Link { target } => (LINK | 0o777, 1, target.clone().into_bytes()),
        };
        entry(&mut archive, [number, mode, links], NO_DEVICE, path, &data)
            .with_context(|| format!("/{path} does not fit into cpio"))?;
    }
    for device in devices {
        number += 1;
        entry(&mut archive, [number, CHARACTER | 0o600, 1], device.number, device.path, &[])?;
    }
    entry(&mut archive, [0, 0, 1], NO_DEVICE, "TRAILER!!!", &[])?;
    Ok(archive)
}

/// `head`: inode, mode, links; `device`: what it stands for.
fn entry(archive: &mut Vec<u8>, head: [u32; 3], device: (u32, u32), name: &str, data: &[u8]) -> Result<()> {
    let ([number, mode, links], (major, minor)) = (head, device);
    let size = u32::try_from(data.len()).context("larger than 4 GiB")?;
    let name_size = u32::try_from(name.len() + 1)?;
    // magic; inode, mode, uid, gid, links, mtime, size, device major, minor, rdev major, minor, name size, check
    archive.extend_from_slice(b"070701");
    for field in [number, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(data);
    pad(archive);
    Ok(())
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut tree = Tree::default();
        tree.file("d/init", 0o755, Content::Bytes(b"hello".to_vec())).unwrap();
        tree.link("s", "d/init").unwrap();
        let have = String::from_utf8(write(&tree).unwrap()).unwrap();
        let zero = "00000000";
        let folder = format!(
            "07070100000001000041ed{zero}{zero}00000002{zero}{zero}{zero}{zero}{zero}{zero}00000002{zero}d\0"
        );
        let file = format!(
            "07070100000002000081ed{zero}{zero}00000001{zero}00000005{zero}{zero}{zero}{zero}00000007{zero}d/init\0\0\0\0hello\0\0\0"
        );
        let link = format!(
            "070701000000030000a1ff{zero}{zero}00000001{zero}00000006{zero}{zero}{zero}{zero}00000002{zero}s\0d/init\0\0"
        );
        let last = format!(
            "07070100000000{zero}{zero}{zero}00000001{zero}{zero}{zero}{zero}{zero}{zero}0000000b{zero}TRAILER!!!\0\0\0\0"
        );
        assert_eq!(have, [folder, file, link, last].concat());
    }

    #[test]
    fn a_device_is_root_s_alone_and_carries_its_number() {
        let bytes = write_with(&Tree::default(), &[Device { path: "dev/kmsg", number: (1, 11) }]).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let zero = "00000000";
        let device = format!(
            "0707010000000100002180{zero}{zero}00000001{zero}{zero}{zero}{zero}000000010000000b00000009{zero}dev/kmsg\0"
        );
        assert!(text.starts_with(&device), "{text}");
    }
}
