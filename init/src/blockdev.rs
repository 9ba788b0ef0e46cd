//! Partitions: what sysfs and the disks' own tables say of them -> the one that is meant by a label.
//!
//! The same label on two disks is the classic fault of the field (a cloned disk, an old one put in again): booting
//! from the wrong one would run yesterday's system. [`choose`] takes the disk that the firmware's loader started
//! from, else the only candidate, else none. Nothing here reads a disk.

use std::path::PathBuf;

/// One partition of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    /// Its node: `/dev/vda2`, `/dev/nvme0n1p2`.
    pub device: PathBuf,
    /// The disk it is on: `vda`.
    pub disk: String,
    /// Its number in the partition table, from 1.
    pub number: u32,
    /// Its name in the partition table, e.g. `ROOT-A`; empty when it has none.
    pub label: String,
    /// Bytes.
    pub size: u64,
    /// Its own GUID, lower case (PARTUUID); `None` when it was not read.
    pub uuid: Option<String>,
}

/// The answer of [`choose`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This one.
    One(&'a Partition),
    /// No partition has the label.
    Missing,
    /// Several have it, and nothing says which is meant.
    Ambiguous(Vec<&'a Partition>),
}

/// The partition meant by `label`. `loader` is the PARTUUID of the partition that the firmware's loader was started
/// from, if known: a candidate on the same disk goes before those on others.
pub fn choose<'a>(partitions: &'a [Partition], label: &str, loader: Option<&str>) -> Choice<'a> {
    let all: Vec<&Partition> = partitions.iter().filter(|partition| partition.label == label).collect();
    let near: Vec<&Partition> = match loader_disk(partitions, loader) {
        Some(disk) => all.iter().copied().filter(|partition| partition.disk == disk).collect(),
        None => Vec::new(),
    };
    let candidates = if near.is_empty() { all } else { near };
    match candidates.as_slice() {
        [] => Choice::Missing,
        [one] => Choice::One(one),
        _ => Choice::Ambiguous(candidates),
    }
}

/// The disk that the loader was started from, if its partition is among these.
pub fn loader_disk<'a>(partitions: &'a [Partition], loader: Option<&str>) -> Option<&'a str> {
    let of_loader = |partition: &&Partition| loader.is_some() && partition.uuid.as_deref() == loader;
    partitions.iter().find(of_loader).map(|partition| partition.disk.as_str())
}

/// A table for the console, one line a partition, with a heading.
pub fn table<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> Vec<String> {
    let row = |device: &str, size: &str, label: &str| format!("  {device:<16} {size:>10}  {label}");
    let rows = partitions.into_iter().map(|partition| {
        let label = if partition.label.is_empty() { "(none)" } else { &partition.label };
        row(&partition.device.display().to_string(), &human(partition.size), label)
    });
    std::iter::once(row("partition", "size", "label")).chain(rows).collect()
}

/// `512.0 MiB`.
fn human(bytes: u64) -> String {
    let mib = bytes / (1 << 20);
    let (unit, shift) = if mib >= 1 << 10 { ("GiB", 30) } else { ("MiB", 20) };
    let tenths = (u128::from(bytes) * 10) >> shift;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A file system that a root may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// What Podium's images have.
    Erofs,
    /// Read-only and smaller.
    Squashfs,
    /// ext2, 3 and 4: for a root made by hand.
    Ext4,
}

impl Filesystem {
    /// Bytes from the start of the partition that [`Filesystem::probe`] looks at.
    pub const PROBE: usize = 2048;

    /// By the magic number of the superblock.
    pub fn probe(start: &[u8]) -> Option<Self> {
        let is_at =
            |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
        if is_at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) {
            Some(Self::Erofs)
        } else if is_at(0, b"hsqs") {
            Some(Self::Squashfs)
        } else if is_at(1080, &[0x53, 0xef]) {
            Some(Self::Ext4)
        } else {
            None
        }
    }

    /// As mount(2) and the module have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
            Self::Ext4 => "ext4",
        }
    }
}

/// Where a disk's partition entries are, from its GPT header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gpt {
    /// Byte offset of the first entry.
    pub entries: u64,
    /// Bytes of one entry.
    pub entry_size: u32,
}

impl Gpt {
    /// Bytes of the header that [`Gpt::parse`] looks at.
    pub const HEADER: usize = 92;
    /// Bytes of an entry that [`Gpt::uuid`] looks at.
    pub const ENTRY: usize = 32;

    /// Reads the header, which is the second block of a disk with blocks of `block` bytes. The kernel has checked
    /// its sums before it made the partitions.
    pub fn parse(header: &[u8], block: u64) -> Option<Self> {
        header.strip_prefix(b"EFI PART")?;
        let first = u64::from_le_bytes(*header.get(72..)?.first_chunk()?);
        let entry_size = u32::from_le_bytes(*header.get(84..)?.first_chunk()?);
        let is_sane = (128..=4096).contains(&entry_size) && first >= 2;
        is_sane.then_some(Self { entries: first.checked_mul(block)?, entry_size })
    }

    /// Byte offset of the entry of partition `number`, which counts from 1.
    pub fn entry(&self, number: u32) -> Option<u64> {
        let index = u64::from(number.checked_sub(1)?);
        self.entries.checked_add(index.checked_mul(u64::from(self.entry_size))?)
    }

    /// The partition's own GUID in an entry, as PARTUUID is written. `None`: the entry is not in use.
    pub fn uuid(entry: &[u8]) -> Option<String> {
        let kind: &[u8; 16] = entry.first_chunk()?;
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, e0, e1, e2, e3, e4, e5] =
            *entry.get(16..)?.first_chunk()?;
        let (a, b, c) = (
            u32::from_le_bytes([a0, a1, a2, a3]),
            u16::from_le_bytes([b0, b1]),
            u16::from_le_bytes([c0, c1]),
        );
        let d = u16::from_be_bytes([d0, d1]);
        let e = u64::from_be_bytes([0, 0, e0, e1, e2, e3, e4, e5]);
        (*kind != [0; 16]).then(|| format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}"))
    }
}

/// The file below `/sys/firmware/efi/efivars` in which a loader says which partition it was started from.
pub const LOADER_VARIABLE: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The PARTUUID in [`LOADER_VARIABLE`]: four bytes of attributes, then UTF-16 with a NUL at its end.
pub fn loader_uuid(variable: &[u8]) -> Option<String> {
    let (units, _) = variable.get(4..)?.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
    let is_uuid = text.len() == 36 && text.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
    is_uuid.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(device: &str, label: &str, uuid: Option<&str>) -> Partition {
        Partition {
            device: format!("/dev/{device}").into(),
            disk: device.trim_end_matches(char::is_numeric).into(),
            number: 1,
            label: label.into(),
            size: 320 << 20,
            uuid: uuid.map(str::to_owned),
        }
    }

    #[test]
    fn a_label_that_is_there_once_is_taken() {
        let all = [partition("vda1", "EFI", None), partition("vda2", "ROOT-A", None)];
        assert_eq!(choose(&all, "ROOT-A", None), Choice::One(&all[1]));
        assert_eq!(choose(&all, "ROOT-A", Some("no such")), Choice::One(&all[1]));
        assert_eq!(choose(&all, "ROOT-B", None), Choice::Missing);
        assert_eq!(choose(&all, "root-a", None), Choice::Missing);
    }

    #[test]
    fn of_two_the_one_on_the_loaders_disk_is_taken_and_else_none() {
        let all = [
            partition("vda1", "EFI", Some("aa")),
            partition("vda2", "ROOT-A", None),
            partition("vdb1", "EFI", Some("bb")),
            partition("vdb2", "ROOT-A", None),
        ];
        assert_eq!(choose(&all, "ROOT-A", Some("bb")), Choice::One(&all[3]));
        let both = Choice::Ambiguous(vec![&all[1], &all[3]]);
        assert_eq!(choose(&all, "ROOT-A", None), both);
        assert_eq!(choose(&all, "ROOT-A", Some("cc")), both);
        assert_eq!(loader_disk(&all, Some("bb")), Some("vdb"));
        assert_eq!(loader_disk(&all, None), None, "partitions without a GUID are not the loader's");
    }

    #[test]
    fn a_loader_on_another_disk_does_not_forbid_the_only_root_and_two_on_its_own_disk_are_too_many() {
        let stick = [partition("sda1", "EFI", Some("aa")), partition("vda2", "ROOT-A", None)];
        assert_eq!(choose(&stick, "ROOT-A", Some("aa")), Choice::One(&stick[1]));
        let twice = [
            partition("vda1", "EFI", Some("aa")),
            partition("vda2", "ROOT-A", None),
            partition("vda3", "ROOT-A", None),
            partition("vdb2", "ROOT-A", None),
        ];
        assert_eq!(choose(&twice, "ROOT-A", Some("aa")), Choice::Ambiguous(vec![&twice[1], &twice[2]]));
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let big = Partition { size: (3 << 30) + (512 << 20), ..partition("nvme0n1p5", "EPHEMERAL", None) };
        assert_eq!(
            table([&partition("vda2", "ROOT-A", None), &big, &partition("vdb1", "", None)]),
            [
                "  partition              size  label",
                "  /dev/vda2         320.0 MiB  ROOT-A",
                "  /dev/nvme0n1p5      3.5 GiB  EPHEMERAL",
                "  /dev/vdb1         320.0 MiB  (none)",
            ]
        );
    }

    #[test]
    fn file_systems_are_known_by_their_magic() {
        let with = |offset: usize, magic: &[u8]| {
            let mut bytes = vec![0; Filesystem::PROBE];
            bytes[offset..offset + magic.len()].copy_from_slice(magic);
            bytes
        };
        assert_eq!(Filesystem::probe(&with(1024, &0xe0f5_e1e2_u32.to_le_bytes())), Some(Filesystem::Erofs));
        assert_eq!(Filesystem::probe(&with(0, b"hsqs")), Some(Filesystem::Squashfs));
        assert_eq!(Filesystem::probe(&with(1080, &0xef53_u16.to_le_bytes())), Some(Filesystem::Ext4));
        assert_eq!(Filesystem::probe(&with(3, b"NTFS")), None);
        assert_eq!(Filesystem::probe(&[]), None);
    }

    #[test]
    fn a_gpt_leads_to_partuuids() {
        let mut header = vec![0; Gpt::HEADER];
        header[..8].copy_from_slice(b"EFI PART");
        header[72] = 2;
        header[80] = 128;
        header[84] = 128;
        let gpt = Gpt::parse(&header, 512).unwrap();
        assert_eq!((gpt.entry(1), gpt.entry(2), gpt.entry(0)), (Some(1024), Some(1152), None));
        assert_eq!(Gpt::parse(&header, 4096).unwrap().entry(1), Some(8192));

        let mut entry = vec![1; 16];
        entry.extend((0x10..0x20).collect::<Vec<u8>>());
        assert_eq!(Gpt::uuid(&entry).as_deref(), Some("13121110-1514-1716-1819-1a1b1c1d1e1f"));
        entry[..16].fill(0);
        assert_eq!(Gpt::uuid(&entry), None);
        assert_eq!(Gpt::uuid(&entry[..31]), None);

        header[84] = 1;
        assert_eq!(Gpt::parse(&header, 512), None, "entries of one byte");
        assert_eq!(Gpt::parse(b"EFI PART", 512), None);
        assert_eq!(Gpt::parse(&[0; Gpt::HEADER], 512), None);
    }

    #[test]
    fn the_loaders_variable_is_utf16_after_its_attributes() {
        let uuid = "13121110-1514-1716-1819-1A1B1C1D1E1F";
        let mut variable = vec![6, 0, 0, 0];
        variable.extend(uuid.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        assert_eq!(loader_uuid(&variable), Some(uuid.to_lowercase()));
        assert_eq!(loader_uuid(&variable[..40]), None);
        assert_eq!(loader_uuid(&[]), None);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128), number in any::<u32>()) {
            let mut header = b"EFI PART".to_vec();
            header.extend(&bytes);
            if let Some(gpt) = Gpt::parse(&header, 4096) {
                prop_assert!(gpt.entry(number).is_none_or(|offset| offset >= gpt.entries));
            }
            prop_assert!(Gpt::uuid(&bytes).is_none_or(|uuid| uuid.len() == 36));
            prop_assert!(loader_uuid(&bytes).is_none_or(|uuid| uuid.len() == 36));
        }
    }
}
