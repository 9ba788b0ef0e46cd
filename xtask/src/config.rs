//! How a config file of the host gets into a machine: in the kernel command line when it fits, else on a small disk.

use anyhow::{Context, Result};
use podium_tests::disk::Disk;
use podium_tests::inline::{LONGEST_COMMAND_LINE, gzip, plain};
use std::fs;
use std::path::Path;

/// The label of the disk that carries a config which is too long for the command line.
const LABEL: &str = "PODIUM-CONFIG";

/// A config on its way into a machine.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The kernel word that names it.
    pub(crate) word: String,
    /// The disk that holds it; must outlive the machine.
    pub(crate) disk: Option<Disk>,
}

/// Reads `file` and packs it beside the other kernel `words`.
///
/// # Errors
/// When the file cannot be read, or the disk not made.
pub(crate) fn deliver(file: &Path, words: &[String]) -> Result<Delivery> {
    let bytes = fs::read(file).with_context(|| format!("--config {}", file.display()))?;
    let taken = words.iter().map(|word| word.len() + 1).sum::<usize>();
    for word in [plain(&bytes), gzip(&bytes)?] {
        if taken + word.len() <= LONGEST_COMMAND_LINE {
            return Ok(Delivery { word, disk: None });
        }
    }
    on_disk(&bytes)
}

/// Packs a config on a disk, whatever its size.
///
/// # Errors
/// The disk cannot be made.
pub(crate) fn on_disk(config: &[u8]) -> Result<Delivery> {
    let disk = Disk::with_files(LABEL, &[("config.yaml", config)])?;
    Ok(Delivery { word: format!("podium.config=LABEL={LABEL}:/config.yaml"), disk: Some(disk) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(config: &[u8]) -> Delivery {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), config).unwrap();
        deliver(file.path(), &["console=ttyS0".to_owned()]).unwrap()
    }

    #[test]
    fn a_small_config_goes_in_as_it_is() {
        assert_eq!(delivered(b"version: v1alpha1\n").word, plain(b"version: v1alpha1\n"));
    }

    #[test]
    fn a_larger_one_is_packed() {
        let config = b"version: v1alpha1 # and again\n".repeat(100);
        let delivery = delivered(&config);
        assert_eq!(delivery.word, gzip(&config).unwrap());
        assert!(delivery.disk.is_none());
    }

    #[test]
    fn one_that_does_not_fit_the_command_line_goes_on_a_disk() {
        let noise: Vec<u8> = (0..40_000_u32).map(|n| b'a' + u8::try_from(n * n / 7 % 23).unwrap()).collect();
        let noise: Vec<u8> = noise
            .iter()
            .zip((0_u32..).map(|n| n.wrapping_mul(2_654_435_761)))
            .map(|(a, b)| a ^ u8::try_from(b >> 28).unwrap())
            .collect();
        let delivery = delivered(&noise);
        assert_eq!(delivery.word, "podium.config=LABEL=PODIUM-CONFIG:/config.yaml");
        assert!(delivery.disk.is_some());
    }
}
