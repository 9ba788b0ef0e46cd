//! What a partition holds, from its first bytes: [`identify`].
//!
//! Knows ext4, vfat and iso9660, and nothing at all (`Blank`); everything else is `Unknown`, and is never formatted.
//! Reads no device: the bytes are handed in.

/// How many first bytes [`identify`] wants: an iso9660 volume descriptor, the farthest of those it knows, ends at
/// 34 KiB.
pub const PROBE: usize = 64 * 1024;

/// How many first bytes must be zeros for a partition to be blank: btrfs has its superblock at 64 KiB, ZFS at
/// 128 KiB. Whoever calls [`identify`] looks at the rest.
pub const BLANK: u64 = 1024 * 1024;

/// What stands in the first bytes of a data partition while its file system is being copied there.
///
/// The last thing written over it is the superblock, so a power cut in between is recognised and begun again.
pub const BEING_MADE: &[u8] = b"PODIUM: file system being made\n";

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Zeros, as far as it was looked at: see [`BLANK`].
    Blank,
    /// [`BEING_MADE`]: cut off while it was made by us; holds nothing of value.
    BeingMade,
    /// ext2, ext3 or ext4.
    Ext4(Ext4),
    /// FAT12, FAT16 or FAT32, with its label.
    Vfat(String),
    /// A CD's file system, with its label.
    Iso9660(String),
    /// Something.
    Unknown,
}

/// What an ext4 superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4 {
    /// Volume label.
    pub label: String,
    /// Unmounted in order and without known errors: it needs no check.
    pub clean: bool,
    /// Its size in bytes; the partition may be larger.
    pub size: u64,
}

impl Content {
    /// The file system's label; empty without one.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Ext4(ext4) => &ext4.label,
            Self::Vfat(label) | Self::Iso9660(label) => label,
            Self::Blank | Self::BeingMade | Self::Unknown => "",
        }
    }

    /// The name mount(2) takes; `None` for what cannot be mounted.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Ext4(_) => Some("ext4"),
            Self::Vfat(_) => Some("vfat"),
            Self::Iso9660(_) => Some("iso9660"),
            Self::Blank | Self::BeingMade | Self::Unknown => None,
        }
    }
}

/// Says what a partition holds by its first [`PROBE`] bytes, or all of it if it is smaller.
#[must_use]
pub fn identify(head: &[u8]) -> Content {
    if head.starts_with(BEING_MADE) {
        return Content::BeingMade;
    }
    if let Some(ext4) = ext4(head) {
        return Content::Ext4(ext4);
    }
    if let Some(label) = iso9660(head) {
        return Content::Iso9660(label);
    }
    if let Some(label) = vfat(head) {
        return Content::Vfat(label);
    }
    match head.iter().all(|byte| *byte == 0) {
        true => Content::Blank,
        false => Content::Unknown,
    }
}

/// `struct ext4_super_block`, 1024 bytes into the partition.
fn ext4(head: &[u8]) -> Option<Ext4> {
    /// `EXT4_VALID_FS` in `s_state`; any other bit set there means errors.
    const VALID: u16 = 1;
    /// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal must be replayed.
    const RECOVER: u32 = 0x4;
    /// `EXT4_FEATURE_INCOMPAT_64BIT`.
    const WIDE: u32 = 0x80;
    let sb = head.get(1024..2048)?;
    if u16_at(sb, 0x38)? != 0xEF53 {
        return None;
    }
    let incompat = u32_at(sb, 0x60)?;
    let high = if incompat & WIDE == 0 { 0 } else { u64::from(u32_at(sb, 0x150)?) };
    let blocks = high << 32 | u64::from(u32_at(sb, 0x04)?);
    // 1 KiB << n; the kernel's largest is 64 KiB.
    let block_size = 1024u64 << u32_at(sb, 0x18)?.min(6);
    Some(Ext4 {
        label: text(sb.get(0x78..0x88)?),
        clean: u16_at(sb, 0x3A)? == VALID && incompat & RECOVER == 0,
        size: blocks.saturating_mul(block_size),
    })
}

/// The BIOS parameter block: jump, signature, and the file system's name where FAT16 or FAT32 has it.
fn vfat(head: &[u8]) -> Option<String> {
    if head.get(510..512)? != [0x55, 0xAA] || !matches!(head.first()?, 0xEB | 0xE9) {
        return None;
    }
    let label = if head.get(82..87)? == b"FAT32" {
        head.get(71..82)?
    } else if head.get(54..57)? == b"FAT" {
        head.get(43..54)?
    } else {
        return None;
    };
    match text(label).as_str() {
        "NO NAME" => Some(String::new()),
        label => Some(label.to_owned()),
    }
}

/// The primary volume descriptor, sector 16 of 2 KiB.
fn iso9660(head: &[u8]) -> Option<String> {
    let descriptor = head.get(0x8000..0x8800)?;
    (descriptor.get(..6)? == b"\x01CD001").then(|| text(descriptor.get(40..72).unwrap_or_default()))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).trim_end().to_owned()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A superblock as mke2fs writes it: 300 blocks of 4 KiB, 64 bit.
    fn ext4_head() -> Vec<u8> {
        let mut head = vec![0; PROBE];
        let mut put =
            |at: usize, bytes: &[u8]| head[1024 + at..1024 + at + bytes.len()].copy_from_slice(bytes);
        put(0x04, &300u32.to_le_bytes());
        put(0x18, &2u32.to_le_bytes());
        put(0x38, &0xEF53u16.to_le_bytes());
        put(0x3A, &1u16.to_le_bytes());
        put(0x60, &0x2C2u32.to_le_bytes());
        put(0x78, b"EPHEMERAL\0");
        head
    }

    #[test]
    fn zeros_are_blank_and_one_byte_is_not() {
        let mut head = vec![0; PROBE];
        assert_eq!(identify(&head), Content::Blank);
        head[PROBE - 1] = 1;
        assert_eq!(identify(&head), Content::Unknown);
    }

    #[test]
    fn ext4_tells_its_label_size_and_that_it_is_clean() {
        let content = identify(&ext4_head());
        assert_eq!(content, Content::Ext4(Ext4 { label: "EPHEMERAL".into(), clean: true, size: 300 * 4096 }));
        assert_eq!((content.label(), content.kind()), ("EPHEMERAL", Some("ext4")));
    }

    #[test]
    fn ext4_past_16_tib_has_the_upper_half_of_its_size() {
        let mut head = ext4_head();
        head[1024 + 0x150] = 1;
        assert!(
            matches!(identify(&head), Content::Ext4(Ext4 { size, .. }) if size == ((1 << 32) + 300) * 4096)
        );
    }

    #[test]
    fn ext4_with_a_journal_to_replay_or_errors_is_not_clean() {
        let mut replay = ext4_head();
        replay[1024 + 0x60] |= 0x4;
        let mut errors = ext4_head();
        errors[1024 + 0x3A] = 3;
        let mut mounted = ext4_head();
        mounted[1024 + 0x3A] = 0;
        for head in [replay, errors, mounted] {
            assert!(matches!(identify(&head), Content::Ext4(Ext4 { clean: false, .. })));
        }
    }

    #[test]
    fn a_half_made_file_system_is_recognised_until_its_superblock_is_there() {
        let mut head = vec![7; PROBE];
        head[..BEING_MADE.len()].copy_from_slice(BEING_MADE);
        assert_eq!(identify(&head), Content::BeingMade);
    }

    #[test]
    fn fat_and_iso_tell_their_labels() {
        let mut fat32 = vec![0; PROBE];
        fat32[0] = 0xEB;
        fat32[71..82].copy_from_slice(b"CONFIG     ");
        fat32[82..90].copy_from_slice(b"FAT32   ");
        fat32[510..512].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(identify(&fat32), Content::Vfat("CONFIG".into()));

        let mut fat16 = vec![0; PROBE];
        fat16[0] = 0xE9;
        fat16[43..54].copy_from_slice(b"NO NAME    ");
        fat16[54..62].copy_from_slice(b"FAT16   ");
        fat16[510..512].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(identify(&fat16), Content::Vfat(String::new()));

        let mut iso = vec![0; PROBE];
        iso[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        iso[0x8028..0x8048].copy_from_slice(b"metal-iso                       ");
        assert_eq!(identify(&iso), Content::Iso9660("metal-iso".into()));
    }

    #[test]
    fn any_cut_off_head_is_read_without_a_fault() {
        let head = ext4_head();
        for length in (0..4096).chain([0x8000, 0x8400, PROBE]) {
            assert_ne!(identify(&head[..length]), Content::BeingMade);
        }
    }
}
