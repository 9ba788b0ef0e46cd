//! Placeholder that its owner replaces.
use crate::sys::file;
use podium_init::manifests::Manifest;
use podium_init::paths;
use std::path::Path;

/// Writes all manifests; one that fails is said and the others are written.
pub(crate) fn write(manifests: &[Manifest]) {
    for manifest in manifests {
        let path = Path::new(paths::MANIFESTS).join(&manifest.file);
        if let Err(error) = file::update(&path, manifest.bytes.as_bytes(), 0o600) {
            log::error!("pod {}: {error:#}", manifest.id);
        }
    }
}
