//! Lays the raw disk out: a GPT with EFI, ROOT-A, ROOT-B, STATE and EPHEMERAL, in a sparse file.
//!
//! Every GUID is derived from the build id, so the same image gives the same bytes. STATE and EPHEMERAL are left
//! empty: the node makes their file systems at first boot and grows the last one to the end of its disk.

use crate::cache::hash;
use crate::definition::Partitions;
use crate::run;
use anyhow::{Context, Result, ensure};
use gpt::partition_types::{self, Type};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use uuid::Uuid;

/// A partition's place on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Label, unique.
    pub label: &'static str,
    /// Type of the partition.
    pub kind: Type,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub size: u64,
}

const MIB: u64 = 1024 * 1024;
const SECTOR: u64 = 512;
/// How full a root slot may be, in percent: the next version must fit as well.
const ROOT_LIMIT: u64 = 80;

/// Where the partitions lie, in their order, each aligned to a MiB; and the size of the whole disk.
pub fn layout(sizes: &Partitions) -> (Vec<Part>, u64) {
    let wanted = [
        ("EFI", partition_types::EFI, sizes.esp),
        ("ROOT-A", partition_types::LINUX_ROOT_X64, sizes.root),
        ("ROOT-B", partition_types::LINUX_ROOT_X64, sizes.root),
        ("STATE", partition_types::LINUX_FS, sizes.state),
        ("EPHEMERAL", partition_types::LINUX_FS, sizes.ephemeral),
    ];
    let mut start = MIB;
    let mut parts = Vec::new();
    for (label, kind, size) in wanted {
        parts.push(Part { label, kind, start, size });
        start += size.next_multiple_of(MIB);
    }
    // The last MiB holds the backup of the table.
    (parts, start + MIB)
}

/// Refuses a root image that fills too much of its slot.
pub fn check_root(bytes: u64, slot: u64) -> Result<()> {
    let limit = slot / 100 * ROOT_LIMIT;
    ensure!(
        bytes <= limit,
        "the root image has {bytes} bytes, more than {ROOT_LIMIT} % of its slot of {slot}; \
         take less into it or raise partitions.root in image.yaml"
    );
    Ok(())
}

/// A GUID of version 4's form out of the build id and a purpose.
pub fn guid(build_id: &str, purpose: &str) -> Uuid {
    let digest = Sha256::digest(format!("podium {purpose} {build_id}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// Writes the disk with a root image in ROOT-A and an empty FAT in EFI.
pub fn write(disk: &Path, root: &Path, sizes: &Partitions, build_id: &str) -> Result<()> {
    let (parts, size) = layout(sizes);
    check_root(root.metadata()?.len(), sizes.root)?;
    let folder = disk.parent().context("the disk image has a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_len(size)?;
    write_table(file.as_file_mut(), &parts, size, build_id)?;
    let mut esp = tempfile::NamedTempFile::new_in(folder)?;
    make_esp(esp.path(), sizes.esp, build_id)?;
    let place = |label: &str| parts.iter().find(|part| part.label == label).context("a known label");
    copy_sparse(esp.as_file_mut(), file.as_file_mut(), place("EFI")?.start)?;
    copy_sparse(&mut File::open(root)?, file.as_file_mut(), place("ROOT-A")?.start)?;
    crate::cache::publish(file, disk)
}

fn write_table(file: &mut File, parts: &[Part], size: u64, build_id: &str) -> Result<()> {
    let last = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(last).overwrite_lba0(file)?;
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(gpt::disk::LogicalBlockSize::Lb512)
        .create_from_device(&mut *file, Some(guid(build_id, "disk")))?;
    let entries: BTreeMap<u32, gpt::partition::Partition> = (1..)
        .zip(parts)
        .map(|(id, part)| {
            let entry = gpt::partition::Partition {
                part_type_guid: part.kind.clone(),
                part_guid: guid(build_id, part.label),
                first_lba: part.start / SECTOR,
                last_lba: (part.start + part.size) / SECTOR - 1,
                flags: 0,
                name: part.label.to_owned(),
            };
            (id, entry)
        })
        .collect();
    table.update_partitions(entries)?;
    table.write()?;
    Ok(())
}

/// An empty FAT32; loaders are put into it by who needs them.
fn make_esp(file: &Path, size: u64, build_id: &str) -> Result<()> {
    std::fs::File::options().write(true).open(file)?.set_len(size)?;
    let serial = &hash(format!("podium esp {build_id}").as_bytes())[..8];
    let mut command = run::command("mkfs.vfat");
    command.env("SOURCE_DATE_EPOCH", "0");
    run::quiet(command.args(["--invariant", "-F", "32", "-s", "1", "-n", "EFI", "-i", serial]).arg(file))
}

/// Copies what is not zero.
fn copy_sparse(from: &mut File, to: &mut File, at: u64) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    // Compared as a whole, which is a memcmp and fast in a development build too.
    let zero = buffer.clone();
    let mut offset = 0;
    from.seek(SeekFrom::Start(0))?;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = from.read(&mut buffer[filled..])?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        if filled == 0 {
            return Ok(());
        }
        if buffer[..filled] != zero[..filled] {
            to.seek(SeekFrom::Start(at + offset))?;
            to.write_all(&buffer[..filled])?;
        }
        offset += u64::try_from(filled)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Partitions =
        Partitions { esp: 260 * MIB, root: 4 * MIB, state: 2 * MIB, ephemeral: 3 * MIB };

    #[test]
    fn the_table_reads_back_as_laid_out() {
        let (parts, size) = layout(&SIZES);
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        write_table(&mut file, &parts, size, "id").unwrap();
        let disk = gpt::GptConfig::new().open_from_device(&mut file).unwrap();
        assert_eq!(*disk.guid(), guid("id", "disk"));
        assert!(disk.backup_header().is_ok());
        let have: Vec<_> = disk
            .partitions()
            .values()
            .map(|p| (p.name.as_str(), p.first_lba * SECTOR, (p.last_lba + 1 - p.first_lba) * SECTOR))
            .collect();
        let want: Vec<_> = parts.iter().map(|part| (part.label, part.start, part.size)).collect();
        assert_eq!(have, want);
        assert_eq!(
            want.iter().map(|part| part.0).collect::<Vec<_>>(),
            ["EFI", "ROOT-A", "ROOT-B", "STATE", "EPHEMERAL"]
        );
        assert!(want.iter().all(|(_, start, _)| start % MIB == 0));
    }

    #[test]
    fn the_same_id_gives_the_same_table_and_another_gives_others() {
        let make = |id: &str| {
            let (parts, size) = layout(&SIZES);
            let mut file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            write_table(&mut file, &parts, size, id).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut first = vec![0; 34 * 512];
            file.read_exact(&mut first).unwrap();
            first
        };
        assert_eq!(make("a"), make("a"));
        assert_ne!(make("a"), make("b"));
    }

    #[test]
    fn guids_differ_by_purpose_and_have_the_form_of_version_4() {
        assert_ne!(guid("a", "STATE"), guid("a", "EFI"));
        assert_eq!(guid("a", "disk").get_version_num(), 4);
    }

    #[test]
    fn a_root_beyond_four_fifths_of_its_slot_is_refused() {
        assert!(check_root(80, 100).is_ok());
        assert!(check_root(81, 100).unwrap_err().to_string().contains("raise partitions.root"));
    }

    #[test]
    fn holes_stay_holes_and_data_lands_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut from =
            File::options().create_new(true).read(true).write(true).open(folder.path().join("from")).unwrap();
        from.set_len(8 * MIB).unwrap();
        from.seek(SeekFrom::Start(5 * MIB)).unwrap();
        from.write_all(b"data").unwrap();
        let mut to =
            File::options().create_new(true).read(true).write(true).open(folder.path().join("to")).unwrap();
        to.set_len(16 * MIB).unwrap();
        copy_sparse(&mut from, &mut to, MIB).unwrap();
        let mut have = [0; 4];
        to.seek(SeekFrom::Start(6 * MIB)).unwrap();
        to.read_exact(&mut have).unwrap();
        assert_eq!(&have, b"data");
        use std::os::unix::fs::MetadataExt;
        assert!(to.metadata().unwrap().blocks() * 512 < MIB);
    }
}
