//! From packages to a tree: real archives made here by dpkg-deb, a lock that names them, a cache that holds them.

use podium_image::build::Checkout;
use podium_image::cache::{Cache, hash_file};
use podium_image::definition::{Definition, parse};
use podium_image::lock::{Blob, Lock, Package};
use podium_image::packages::{Packages, Policy};
use podium_image::rootfs::package_files;
use podium_image::tree::Node;
use std::path::Path;
use std::process::Command;

const DEFINITION: &str = "
suite: bookworm
kernel: {package: linux-image-none, modules: [], initramfs: [erofs]}
kubelet: {path: none}
pause: podium.local/pause:1
partitions: {esp: 260MiB, root: 1MiB, state: 1MiB, ephemeral: 1MiB}
packages:
";

/// A cache with one package `tool`, with a small dynamic program of this machine.
fn world(folder: &Path) -> Packages {
    let tree = folder.join("tool");
    for path in ["DEBIAN", "bin", "usr/share/doc/tool"] {
        std::fs::create_dir_all(tree.join(path)).unwrap();
    }
    let control = "Package: tool\nVersion: 1:2.3-4\nArchitecture: amd64\nMaintainer: a <a@example.org>\nDescription: x\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    std::fs::write(tree.join("usr/share/doc/tool/copyright"), "mine").unwrap();
    std::fs::copy("/usr/bin/true", tree.join("bin/needy")).unwrap();
    std::fs::write(tree.join("bin/plain"), "no ELF file").unwrap();
    std::os::unix::fs::symlink("plain", tree.join("bin/other")).unwrap();
    let archive = folder.join("tool_1%3a2.3-4_amd64.deb");
    let made = Command::new("dpkg-deb")
        .env("SOURCE_DATE_EPOCH", "1")
        .args(["-Znone", "-b", "--root-owner-group"])
        .args([&tree, &archive])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let blob = Blob {
        file: "tool_1%3a2.3-4_amd64.deb".into(),
        size: archive.metadata().unwrap().len(),
        sha256: hash_file(&archive).unwrap(),
    };
    let cache = Cache::at(&folder.join("cache")).unwrap();
    cache.insert(&archive, &blob).unwrap();
    let mut lock = Lock::new("bookworm");
    lock.packages.insert("tool".into(), Package { version: "1:2.3-4".into(), blob });
    let policy = Policy { offline: true, ..Policy::default() };
    Packages::new(cache, lock, policy, &Checkout::at(folder).work.join("unpacked"))
}

fn definition(packages: &str) -> Definition {
    parse(&format!("{DEFINITION}{packages}")).unwrap()
}

#[test]
fn files_keep_their_merged_path_or_move_and_links_stay_links() {
    let folder = tempfile::tempdir().unwrap();
    let mut packages = world(folder.path());
    let definition = definition("  tool: ['usr/bin/{plain,other}', {from: usr/bin/plain, into: opt/x}]\n");
    let (tree, used) = package_files(&definition.packages, &mut packages).unwrap();
    assert!(
        matches!(tree.get("usr/bin/plain"), Some(Node::File { mode: 0o644, .. })),
        "{:?}",
        tree.get("usr/bin/plain")
    );
    assert_eq!(tree.get("usr/bin/other"), Some(&Node::Link { target: "plain".into() }));
    assert!(tree.get("opt/x/plain").is_some());
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["tool"]);
    let unpacked = &packages.unpacked()["tool"];
    assert_eq!((unpacked.version.as_str(), unpacked.upstream_version()), ("1:2.3-4", "2.3"));
}

#[test]
fn a_glob_without_a_match_names_package_and_version() {
    let folder = tempfile::tempdir().unwrap();
    let error = package_files(&definition("  tool: [usr/bin/none]\n").packages, &mut world(folder.path()))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "packages.tool: `usr/bin/none` matches no file of tool 1:2.3-4");
}

#[test]
fn a_library_that_no_dependency_has_is_named_with_who_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = package_files(&definition("  tool: [usr/bin/needy]\n").packages, &mut world(folder.path()))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/usr/bin/needy of package tool needs ld-linux-x86-64.so.2, which is in none of"),
        "{error}"
    );
}

#[test]
fn the_unpacked_package_is_found_again_after_the_checkout_has_moved() {
    let folder = tempfile::tempdir().unwrap();
    let definition = definition("  tool: [usr/bin/plain]\n");
    let first = {
        let here = folder.path().join("here");
        std::fs::create_dir(&here).unwrap();
        package_files(&definition.packages, &mut world(&here)).unwrap().0
    };
    let there = folder.path().join("there");
    std::fs::rename(folder.path().join("here"), &there).unwrap();
    std::fs::remove_dir_all(there.join("tool")).unwrap();
    let second = package_files(&definition.packages, &mut world(&there)).unwrap().0;
    assert_eq!(first.key(), second.key(), "where a file lies on this machine is no part of the key");
    let staged = folder.path().join("staged");
    std::fs::create_dir(&staged).unwrap();
    second.stage(&staged).unwrap();
    assert_eq!(std::fs::read_to_string(staged.join("usr/bin/plain")).unwrap(), "no ELF file");
}
