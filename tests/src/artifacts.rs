//! What a built image consists of, and where `cargo xtask` tells the tests to find it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variable that names the file in which the image under test is described.
pub const IMAGE_VARIABLE: &str = "PODIUM_TEST_IMAGE";

/// A built image: what QEMU needs to boot it, and what is measured on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The kernel's `bzImage`.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The raw GPT disk.
    pub disk: PathBuf,
    /// The kernel command line that it is meant to be booted with, a word each.
    pub words: Vec<String>,
    /// PID 1's file size.
    pub init_binary_bytes: u64,
    /// The root file system's size.
    pub root_image_bytes: u64,
}

impl Image {
    /// The image under test, which `cargo xtask test vm` builds and names.
    ///
    /// # Errors
    /// When it is not named, as in a bare `cargo test --test vm`.
    pub fn under_test() -> Result<Self> {
        let file = std::env::var_os(IMAGE_VARIABLE).with_context(|| {
            format!("{IMAGE_VARIABLE} is not set: run `cargo xtask test vm`, which builds the image first")
        })?;
        Self::load(Path::new(&file))
    }

    /// Reads what [`Image::save`] wrote.
    ///
    /// # Errors
    /// When the file is missing or no description.
    pub fn load(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    /// Writes the description for another process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        fs::write(file, serde_json::to_vec_pretty(self)?).with_context(|| file.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives_the_way_through_a_file() {
        let image = Image {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            disk: "/d".into(),
            words: vec!["console=ttyS0".to_owned()],
            init_binary_bytes: 1,
            root_image_bytes: 2,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        image.save(file.path()).unwrap();
        assert_eq!(Image::load(file.path()).unwrap(), image);
        assert!(Image::load(Path::new("/missing")).is_err());
    }
}
