//! UEFI firmware for a machine under test (Debian's `ovmf`), with variables that a loader would have set before.
//!
//! Variables are put into a private copy of OVMF's store, which is a log of records in flash: each behind the last, in
//! the form of EDK II's `AUTHENTICATED_VARIABLE_HEADER`.

use crate::disk::temporary_folder;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const CODE: &str = "/usr/share/OVMF/OVMF_CODE.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS.fd";
/// Where the volume's header has its signature, and its own length.
const SIGNATURE: usize = 40;
const HEADER_LENGTH: usize = 48;
/// The header of the store behind that of the volume.
const STORE_HEADER: usize = 28;
/// What each record starts with, and the state "added".
const RECORD: [u8; 4] = [0xaa, 0x55, 0x3f, 0];
/// Kept over a reset, for who boots and for who runs.
const ATTRIBUTES: u32 = 7;
/// Of systemd's boot loader interface, in the firmware's mixed byte order: 4a67b082-0a4c-41cf-b6c7-440b29bb8c4f.
const LOADER: [u8; 16] =
    [0x82, 0xb0, 0x67, 0x4a, 0x4c, 0x0a, 0xcf, 0x41, 0xb6, 0xc7, 0x44, 0x0b, 0x29, 0xbb, 0x8c, 0x4f];

/// A firmware with its variables; they go away with this value.
#[derive(Debug)]
pub struct Firmware {
    folder: TempDir,
}

impl Firmware {
    /// One whose loader was started from the partition with this GUID.
    ///
    /// # Errors
    /// `ovmf` is not installed, or looks different.
    pub fn started_from(partition: &str) -> Result<Self> {
        let folder = temporary_folder()?;
        let mut store = fs::read(VARIABLES).with_context(|| format!("{VARIABLES} (Debian's ovmf)"))?;
        add(&mut store, "LoaderDevicePartUUID", &utf16(partition))?;
        fs::write(folder.path().join("variables"), store)?;
        Ok(Self { folder })
    }

    /// QEMU's arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let flash = |unit: u8, file: &Path, more: &str| {
            format!("if=pflash,format=raw,unit={unit},file={}{more}", file.display())
        };
        let code = flash(0, Path::new(CODE), ",readonly=on");
        let variables = flash(1, &self.folder.path().join("variables"), "");
        ["-drive", &code, "-drive", &variables].map(str::to_owned).to_vec()
    }
}

/// Text as the firmware has it, with a NUL behind it.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Writes a variable of the loader behind the last record of a store that has none.
fn add(store: &mut [u8], name: &str, data: &[u8]) -> Result<()> {
    ensure!(store.get(SIGNATURE..SIGNATURE + 4) == Some(b"_FVH"), "no firmware volume");
    let length = store.get(HEADER_LENGTH..).and_then(<[u8]>::first_chunk).context("no header")?;
    let at = (usize::from(u16::from_le_bytes(*length)) + STORE_HEADER).next_multiple_of(4);
    let name = utf16(name);
    let mut record = RECORD.to_vec();
    record.extend(ATTRIBUTES.to_le_bytes());
    // Count, time and key of an authenticated variable, which this is not.
    record.extend([0; 8 + 16 + 4]);
    record.extend(u32::try_from(name.len())?.to_le_bytes());
    record.extend(u32::try_from(data.len())?.to_le_bytes());
    record.extend(LOADER);
    record.extend(name);
    record.extend(data);
    let place = store.get_mut(at..at + record.len()).context("no room")?;
    ensure!(place.iter().all(|byte| *byte == 0xff), "the store holds variables already");
    place.copy_from_slice(&record);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lies_behind_the_headers_and_only_in_an_empty_store() {
        let mut store = vec![0xff; 512];
        store[SIGNATURE..SIGNATURE + 4].copy_from_slice(b"_FVH");
        store[HEADER_LENGTH..HEADER_LENGTH + 2].copy_from_slice(&[0x48, 0]);
        add(&mut store, "N", &utf16("ab")).unwrap();
        assert_eq!(store[100..104], RECORD);
        assert_eq!(store[136..144], [4, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(store[160..170], *b"N\0\0\0a\0b\0\0\0");
        assert_eq!(store[170], 0xff);
        assert!(add(&mut store, "N", b"").is_err());
        assert!(add(&mut [0; 512], "N", b"").is_err());
    }
}
