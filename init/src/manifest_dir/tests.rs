//! The manifest directory with real files.

use super::*;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use tempfile::TempDir;

/// An empty directory, and a quarantine beside it.
fn place() -> (TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (dir, quarantine) = (root.path().join("manifests"), root.path().join("quarantine"));
    std::fs::create_dir(&dir).unwrap();
    (root, dir, quarantine)
}

fn manifests(names: &[&str], image: &str) -> Vec<Manifest> {
    let pod = |name: &&str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": image}]}})
    };
    let pods: Vec<_> = names.iter().map(pod).collect();
    let (manifests, problems) = podium_init::manifests::plan(&pods, &|_| None);
    assert_eq!(problems, []);
    manifests
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        entries(dir).unwrap().iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Sweeps, and gives what was said of it.
fn swept(dir: &Path, quarantine: &Path) -> Vec<String> {
    let moved = sweep(dir, quarantine).unwrap();
    assert!(moved.failed.is_empty(), "{:?}", moved.failed);
    moved.lines
}

fn done(dir: &Path, want: &[Manifest]) -> (usize, usize) {
    let applied = apply(dir, want, &BTreeSet::new(), Order::from).unwrap();
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
    (applied.written.len(), applied.deleted)
}

#[test]
fn manifests_are_written_with_their_mode() {
    let (_root, dir, _) = place();
    let want = manifests(&["a", "b"], "x");
    assert_eq!(done(&dir, &want), (2, 0));
    assert_eq!(names(&dir), ["podium-default-a.yaml", "podium-default-b.yaml"]);
    for manifest in &want {
        let path = dir.join(&manifest.file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), manifest.bytes);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn the_same_bytes_are_not_written_again() {
    let (_root, dir, _) = place();
    let inode = || std::fs::metadata(dir.join("podium-default-a.yaml")).unwrap().ino();
    done(&dir, &manifests(&["a"], "x"));
    let before = inode();
    assert_eq!(done(&dir, &manifests(&["a"], "x")), (0, 0));
    assert_eq!(inode(), before);
    assert_eq!(done(&dir, &manifests(&["a"], "y")), (1, 0));
    assert_ne!(inode(), before, "a new image is renamed over the old file");
}

#[test]
fn what_is_no_longer_wanted_is_removed_unless_it_was_refused() {
    let (_root, dir, _) = place();
    done(&dir, &manifests(&["a", "b", "c"], "x"));
    let refused = BTreeSet::from(["default-b".to_owned()]);
    let applied = apply(&dir, &manifests(&["a"], "x"), &refused, Order::from).unwrap();
    assert_eq!((applied.written.len(), applied.deleted), (0, 1));
    assert_eq!(names(&dir), ["podium-default-a.yaml", "podium-default-b.yaml"]);
}

#[test]
fn files_of_others_are_listed_and_untouched() {
    let (_root, dir, quarantine) = place();
    for (name, text) in [("mine.yaml", "kind: Pod"), ("README", "x"), (".hidden", "y"), ("podium.yaml", "z")]
    {
        std::fs::write(dir.join(name), text).unwrap();
    }
    assert_eq!(swept(&dir, &quarantine), [""; 0]);
    let applied = apply(&dir, &manifests(&["a"], "x"), &BTreeSet::new(), Order::from).unwrap();
    assert_eq!(applied.foreign, ["README", "mine.yaml", "podium.yaml"]);
    hide_all(&dir).unwrap();
    assert!(names(&dir).iter().all(|name| name.starts_with('.')), "{:?}", names(&dir));
    show_again(&dir).unwrap();
    assert_eq!(names(&dir), [".hidden", "README", "mine.yaml", "podium.yaml"]);
    assert_eq!(std::fs::read(dir.join("mine.yaml")).unwrap(), b"kind: Pod");
}

#[test]
fn what_can_hang_a_kubelet_is_moved_out_of_its_sight() {
    let (_root, dir, quarantine) = place();
    nix::unistd::mkfifo(&dir.join("podium-default-a.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(dir.join("socket")).unwrap());
    std::fs::create_dir(dir.join("folder")).unwrap();
    std::fs::write(dir.join("folder/file"), "kept").unwrap();
    symlink("/dev/zero", dir.join("link")).unwrap();
    std::fs::write(dir.join("plain.yaml"), "stays").unwrap();
    let lines = swept(&dir, &quarantine);
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().any(|line| line.contains("podium-default-a.yaml: a FIFO can hang the kubelet")));
    assert_eq!(names(&dir), ["plain.yaml"]);
    assert_eq!(names(&quarantine), ["folder", "link", "podium-default-a.yaml", "socket"]);
    assert_eq!(std::fs::read(quarantine.join("folder/file")).unwrap(), b"kept");
    assert_eq!(done(&dir, &manifests(&["a"], "x")), (1, 0));
}

#[test]
fn a_second_thing_of_one_name_does_not_replace_the_first_in_quarantine() {
    let (_root, dir, quarantine) = place();
    for _ in 0..3 {
        std::fs::create_dir(dir.join("d")).unwrap();
        assert_eq!(swept(&dir, &quarantine).len(), 1);
    }
    assert_eq!(names(&quarantine), ["d", "d.1", "d.2"]);
}

/// As on a node, where the directory is a tmpfs and the quarantine on a disk.
#[test]
fn on_another_file_system_it_is_hidden_in_place() {
    let Ok(shm) = tempfile::tempdir_in("/dev/shm") else { return };
    let (_root, _, quarantine) = place();
    if shm.path().metadata().unwrap().dev() == quarantine.parent().unwrap().metadata().unwrap().dev() {
        return;
    }
    std::fs::create_dir(shm.path().join("d")).unwrap();
    std::fs::write(shm.path().join("f"), "kept").unwrap();
    assert_eq!(swept(shm.path(), &quarantine).len(), 1);
    for expected in ["f", "f.1"] {
        std::fs::write(shm.path().join("f"), "kept").unwrap();
        let to = set_aside(shm.path(), OsStr::new("f"), &quarantine).unwrap();
        assert_eq!(to, quarantine.join(expected), "a file is copied");
        assert_eq!(std::fs::read(to).unwrap(), b"kept");
    }
    assert_eq!(names(shm.path()), [".quarantine-d"]);
    assert_eq!(swept(shm.path(), &quarantine), [""; 0], "it stays there");
}

#[test]
fn what_a_crash_left_is_removed() {
    let (_root, dir, quarantine) = place();
    std::fs::write(dir.join(".podium-default-a.yaml.podium-new"), "{\"apiVer").unwrap();
    std::fs::write(dir.join("podium-default-a.yaml"), "{\"apiVer").unwrap();
    remove_leftovers(&dir).unwrap();
    assert_eq!(swept(&dir, &quarantine), [""; 0]);
    assert_eq!(done(&dir, &manifests(&["a"], "x")), (1, 0), "a cut-off manifest is replaced");
    assert_eq!(names(&dir), ["podium-default-a.yaml"]);
}

#[test]
fn one_file_that_cannot_be_written_does_not_stop_the_others() {
    let (_root, dir, _) = place();
    std::fs::create_dir_all(dir.join("podium-default-a.yaml/full")).unwrap();
    let applied = apply(&dir, &manifests(&["a", "b"], "x"), &BTreeSet::new(), Order::from).unwrap();
    assert_eq!((applied.written.len(), applied.failed.len()), (1, 1));
    assert_eq!(names(&dir), ["podium-default-a.yaml", "podium-default-b.yaml"], "nothing is left behind");
    assert!(hide_all(&dir).is_err());
    assert_eq!(names(&dir), ["podium-default-a.yaml"], "the other one is removed all the same");
}

#[test]
fn a_quarantine_that_is_full_takes_no_more_of_the_disk() {
    let (_root, dir, quarantine) = place();
    std::fs::create_dir(&quarantine).unwrap();
    for number in 0..MOST_QUARANTINED {
        std::fs::write(quarantine.join(number.to_string()), "").unwrap();
    }
    symlink("x", dir.join("link")).unwrap();
    assert_eq!(swept(&dir, &quarantine).len(), 1);
    assert_eq!(names(&dir), [".quarantine-link"]);
}

#[test]
fn a_mistake_in_a_name_ends_no_pod() {
    let (_root, dir, _) = place();
    done(&dir, &manifests(&["a", "b"], "x"));
    let refused = BTreeSet::from(["pods[1]".to_owned()]);
    let applied = apply(&dir, &manifests(&["a"], "y"), &refused, Order::from).unwrap();
    assert_eq!((applied.written.len(), applied.deleted), (1, 0));
    assert_eq!(applied.kept, ["podium-default-b.yaml"]);
    assert_eq!(names(&dir), ["podium-default-a.yaml", "podium-default-b.yaml"]);
    assert_eq!(done(&dir, &manifests(&["a"], "y")), (0, 1), "once the config is mended it is");
}

#[test]
fn a_copy_that_is_larger_than_a_manifest_may_be_is_known_too() {
    let (_root, dir, _) = place();
    let want = manifests(&["a"], "x");
    done(&dir, &want);
    let padded = format!("{}{}", want[0].bytes, " ".repeat(MAX_MANIFEST));
    std::fs::write(dir.join("a.yaml"), padded).unwrap();
    let text = file::read(&dir.join("a.yaml"), KUBELET_READS).unwrap();
    assert!(double(&text, &want).is_some());
}
