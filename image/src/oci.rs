//! OCI image archives: makes those of our own programs, and reads the image names out of those of others.
//!
//! An archive is an OCI layout in a tar file. The annotation `io.containerd.image.name` gives the full reference under
//! which containerd stores the image. The same program gives the same bytes.

use crate::cache::hash;
use anyhow::{Context, Result, bail};
use oci_spec::image::{
    Arch, ConfigBuilder, DescriptorBuilder, Digest, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, RootFsBuilder, SCHEMA_VERSION,
};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

/// The user and group that our own images run as: nobody.
const USER: &str = "65534:65534";

/// An image whose only file is one static program. `name`: of program and image; its reference is in the result.
pub fn own_image(name: &str, program: &[u8]) -> Result<(String, Vec<u8>)> {
    let reference = reference(name);
    let layer = tar(&[(name, program, 0o755)])?;
    let config = ConfigBuilder::default().entrypoint(vec![format!("/{name}")]).user(USER).build()?;
    let history = HistoryBuilder::default().created_by(format!("podium {name}")).build()?;
    let root =
        RootFsBuilder::default().typ("layers").diff_ids(vec![format!("sha256:{}", hash(&layer))]).build()?;
    let config = ImageConfigurationBuilder::default()
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(config)
        .rootfs(root)
        .history(vec![history])
        .build()?
        .to_string()?
        .into_bytes();
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, &config)?.build()?)
        .layers(vec![descriptor(MediaType::ImageLayer, &layer)?.build()?])
        .build()?
        .to_string()?
        .into_bytes();
    let annotations = HashMap::from([("io.containerd.image.name".to_owned(), reference.clone())]);
    let entry = descriptor(MediaType::ImageManifest, &manifest)?.annotations(annotations).build()?;
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![entry])
        .build()?
        .to_string()?;
    let mut blobs = [config, manifest, layer].map(|bytes| (format!("blobs/sha256/{}", hash(&bytes)), bytes));
    blobs.sort();
    let mut files: Vec<(&str, &[u8], u32)> = vec![
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644),
        ("index.json", index.as_bytes(), 0o644),
    ];
    files.extend(blobs.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice(), 0o644)));
    Ok((reference, tar(&files)?))
}

/// The reference of one of our own images.
pub fn reference(name: &str) -> String {
    format!("podium.local/{name}:1")
}

/// The image references in an archive, OCI or docker. An archive that names none is an error.
pub fn references(archive: &Path) -> Result<Vec<String>> {
    let read = || -> Result<Vec<String>> {
        let file = std::fs::File::open(archive)?;
        let mut names = Vec::new();
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            if path != "index.json" && path != "manifest.json" {
                continue;
            }
            let mut text = String::new();
            entry.by_ref().take(4 << 20).read_to_string(&mut text)?;
            let json: serde_json::Value =
                serde_json::from_str(&text).with_context(|| format!("{path} in it"))?;
            names.extend(names_in(&json));
        }
        names.sort();
        names.dedup();
        Ok(names)
    };
    let names = read().with_context(|| format!("cannot read the image archive {}", archive.display()))?;
    if names.is_empty() {
        bail!(
            "{} names no image: neither RepoTags in manifest.json nor io.containerd.image.name in index.json; \
             save it with its name (`docker save NAME`, `ctr images export FILE NAME`)",
            archive.display()
        );
    }
    Ok(names)
}

/// Names in an OCI `index.json` or in a docker `manifest.json`.
fn names_in(json: &serde_json::Value) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let docker = json
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|image| image["RepoTags"].as_array())
        .flatten()
        .filter_map(text);
    let oci = json["manifests"].as_array().into_iter().flatten();
    docker.chain(oci.filter_map(|entry| text(&entry["annotations"]["io.containerd.image.name"]))).collect()
}

fn descriptor(kind: MediaType, bytes: &[u8]) -> Result<DescriptorBuilder> {
    let digest = Digest::from_str(&format!("sha256:{}", hash(bytes)))?;
    Ok(DescriptorBuilder::default().media_type(kind).digest(digest).size(u64::try_from(bytes.len())?))
}

fn tar(files: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.mode(tar::HeaderMode::Deterministic);
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, path, *bytes)?;
    }
    Ok(builder.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_the_same_each_time_and_names_its_image() {
        let (name, first) = own_image("pause", b"program").unwrap();
        assert_eq!(name, "podium.local/pause:1");
        assert_eq!(own_image("pause", b"program").unwrap().1, first);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pause.tar");
        std::fs::write(&file, &first).unwrap();
        assert_eq!(references(&file).unwrap(), ["podium.local/pause:1"]);
    }

    #[test]
    fn every_blob_is_named_by_its_hash_and_referred_to() {
        let (_, bytes) = own_image("hello", b"program").unwrap();
        let mut blobs = HashMap::new();
        let mut index = serde_json::Value::Null;
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if path == "index.json" {
                index = serde_json::from_slice(&bytes).unwrap();
            }
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(hash(&bytes), name);
                blobs.insert(format!("sha256:{name}"), bytes);
            }
        }
        let manifest: serde_json::Value =
            serde_json::from_slice(&blobs[index["manifests"][0]["digest"].as_str().unwrap()]).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&blobs[manifest["config"]["digest"].as_str().unwrap()]).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], layer);
        assert_eq!(config["config"]["Entrypoint"][0], "/hello");
        assert!(blobs.contains_key(layer));
    }

    #[test]
    fn names_are_found_in_both_kinds_of_archives() {
        let docker = serde_json::json!([{"Config": "x", "RepoTags": ["a:1", "b:2"]}, {"RepoTags": null}]);
        assert_eq!(names_in(&docker), ["a:1", "b:2"]);
        let oci =
            serde_json::json!({"manifests": [{"annotations": {"io.containerd.image.name": "c:3"}}, {}]});
        assert_eq!(names_in(&oci), ["c:3"]);
    }

    #[test]
    fn an_archive_without_a_name_tells_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nameless.tar");
        std::fs::write(&file, tar(&[("index.json", b"{}", 0o644)]).unwrap()).unwrap();
        assert!(references(&file).unwrap_err().to_string().contains("docker save NAME"));
    }
}
