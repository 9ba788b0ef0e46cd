//! The model of the kubelet's file source, held against what real kubelets were seen to do to their pods, one thing
//! after the other. No kubelet runs here; `tests/faults/directory.rs` has the real one.

use podium_tests::kubelet_model::{
    Compares, Directory, Happened, Kubelet, MAX_FILE, Operation, Place, Steps,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A manifest with a UID, or with none, so that the kubelet makes one.
fn manifest(name: &str, uid: Option<&str>, image: &str, argument: &str) -> Vec<u8> {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": image, "args": [argument]}]}});
    if let Some(uid) = uid {
        pod["metadata"]["uid"] = json!(uid);
    }
    pod.to_string().into_bytes()
}

fn web(image: &str, argument: &str) -> Vec<u8> {
    manifest("web", None, image, argument)
}

fn fixed(image: &str, argument: &str) -> Vec<u8> {
    manifest("web", Some("u"), image, argument)
}

fn rename(file: &str, bytes: Vec<u8>) -> Operation {
    Operation::Rename { file: file.into(), bytes }
}

fn write(file: &str, bytes: Vec<u8>) -> Operation {
    Operation::Write { file: file.into(), bytes }
}

/// A started kubelet to which this was done; what happened before is forgotten.
fn after(compares: Compares, operations: &[Operation]) -> Kubelet {
    let mut kubelet = Kubelet::new("node-1", compares);
    kubelet.apply(&Operation::StartKubelet).unwrap();
    for operation in operations {
        kubelet.apply(operation).unwrap();
    }
    kubelet.take_happened();
    kubelet
}

/// What becomes of one `web` in `web.yaml` by one operation; UIDs are left out.
fn becomes(first: Vec<u8>, operation: &Operation, compares: Compares) -> Vec<&'static str> {
    let mut kubelet = after(compares, &[rename("web.yaml", first)]);
    kubelet.apply(operation).unwrap();
    words(&mut kubelet)
}

fn words(kubelet: &mut Kubelet) -> Vec<&'static str> {
    let word = |happened| match happened {
        Happened::Created(_) => "created",
        Happened::Killed(_) => "killed",
        Happened::Restarted(..) => "restarted",
        Happened::Ignored(_) => "ignored",
    };
    kubelet.take_happened().into_iter().map(word).collect()
}

fn names(kubelet: &Kubelet) -> Vec<String> {
    kubelet.pods().into_keys().map(|(_, name)| name).collect()
}

const BOTH: [Compares; 2] = [Compares::Everything, Compares::Image];

#[test]
fn a_new_manifest_runs() {
    let mut kubelet = after(Compares::Image, &[]);
    kubelet.apply(&rename("web.yaml", web("i", "a"))).unwrap();
    assert_eq!((words(&mut kubelet), names(&kubelet)), (vec!["created"], vec!["web".to_owned()]));
}

#[test]
fn the_same_again_changes_nothing() {
    let commented = [b"# a comment\n".to_vec(), web("i", "a")].concat();
    let operations = [
        rename("web.yaml", web("i", "a")),
        write("web.yaml", web("i", "a")),
        Operation::Touch("web.yaml".into()),
        Operation::Chmod("web.yaml".into()),
        rename("web.yaml", commented),
        Operation::Relist,
    ];
    for operation in operations {
        assert!(becomes(web("i", "a"), &operation, Compares::Image).is_empty(), "{operation:?}");
    }
}

#[test]
fn a_changed_argument_is_a_new_pod_where_the_uid_is_hashed() {
    for compares in BOTH {
        let operation = rename("web.yaml", web("i", "b"));
        assert_eq!(becomes(web("i", "a"), &operation, compares), ["killed", "created"]);
    }
}

#[test]
fn a_changed_image_is_a_restart_in_place_where_the_uid_is_fixed() {
    for compares in BOTH {
        let operation = rename("web.yaml", fixed("j", "a"));
        assert_eq!(becomes(fixed("i", "a"), &operation, compares), ["restarted"]);
    }
}

#[test]
fn any_other_change_under_a_fixed_uid_is_ignored_by_new_kubelets() {
    let operation = rename("web.yaml", fixed("i", "b"));
    assert_eq!(becomes(fixed("i", "a"), &operation, Compares::Everything), ["restarted"]);
    assert_eq!(becomes(fixed("i", "a"), &operation, Compares::Image), ["ignored"]);
    let mut kubelet = after(Compares::Image, &[rename("web.yaml", fixed("i", "a")), operation]);
    assert_eq!(kubelet.running()["u"].containers["c"]["args"], json!(["a"]), "the old arguments run on");
    kubelet.apply(&rename("web.yaml", fixed("j", "b"))).unwrap();
    assert_eq!(kubelet.running()["u"].containers["c"]["args"], json!(["b"]), "until something restarts it");
}

/// Changed while the kubelet is down: a hashed UID makes the old and the new run together, a fixed one does not.
#[test]
fn a_change_while_the_kubelet_is_down_is_seen_when_it_returns() {
    for (first, second, expected) in [
        (web("i", "a"), web("j", "a"), vec!["created", "killed"]),
        (fixed("i", "a"), fixed("j", "a"), vec!["restarted"]),
    ] {
        let mut kubelet = after(
            Compares::Image,
            &[rename("web.yaml", first), Operation::StopKubelet, rename("web.yaml", second)],
        );
        assert_eq!(kubelet.running().len(), 1, "containers outlive the kubelet");
        kubelet.apply(&Operation::StartKubelet).unwrap();
        assert_eq!(words(&mut kubelet), expected);
    }
}

#[test]
fn a_restart_of_the_kubelet_changes_nothing() {
    let mut kubelet = after(Compares::Image, &[rename("a.yaml", web("i", "a")), Operation::StopKubelet]);
    kubelet.apply(&Operation::StartKubelet).unwrap();
    assert!(words(&mut kubelet).is_empty());
}

#[test]
fn a_file_cut_off_in_place_kills_its_pod_at_the_next_list() {
    for bytes in [Vec::new(), b"apiVersion: v1\nkind: Pod\nmetada".to_vec(), b"\t{".to_vec()] {
        let mut kubelet = after(Compares::Image, &[rename("web.yaml", web("i", "a"))]);
        kubelet.apply(&write("web.yaml", bytes)).unwrap();
        assert!(words(&mut kubelet).is_empty(), "not at once");
        kubelet.apply(&Operation::Relist).unwrap();
        assert_eq!(words(&mut kubelet), ["killed"]);
    }
}

#[test]
fn some_cut_off_text_is_a_pod_without_its_arguments() {
    let whole = b"{apiVersion: v1, kind: Pod, metadata: {name: web, uid: u}, spec:\n {containers: [{name: c, image: i}]}}";
    let text = b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: c\n    image: i\n    args: [a]\n";
    assert_eq!(after(Compares::Image, &[write("a.yaml", whole.to_vec())]).pods().len(), 1);
    let cut = text[..text.len() - "    args: [a]\n".len()].to_vec();
    let kubelet = after(Compares::Image, &[write("web.yaml", text.to_vec()), write("web.yaml", cut)]);
    let pod = kubelet.pods().into_values().next().unwrap();
    assert!(pod.containers["c"].get("args").is_none());
}

#[test]
fn a_file_under_another_name_is_another_pod_where_the_uid_is_hashed() {
    let operation = Operation::Move { from: "web.yaml".into(), to: "b.yaml".into() };
    assert_eq!(becomes(web("i", "a"), &operation, Compares::Image), ["killed", "created"]);
    let mut kubelet = after(Compares::Image, &[rename("web.yaml", web("i", "a"))]);
    let before = kubelet.pods();
    kubelet.apply(&operation).unwrap();
    assert_ne!(kubelet.pods(), before, "the file's name is in the UID");
    let other = after(Compares::Image, &[rename("web.yaml", fixed("i", "a"))]).pods();
    let moved = after(Compares::Image, &[rename("web.yaml", fixed("i", "a")), operation]).pods();
    assert_eq!(other, moved, "a fixed one stays");
    let mut old = Kubelet::new("n", Compares::Everything).hashing_pods_alone();
    old.apply(&Operation::StartKubelet).unwrap();
    old.apply(&rename("web.yaml", web("i", "a"))).unwrap();
    let before = old.pods();
    old.apply(&Operation::Move { from: "web.yaml".into(), to: "b.yaml".into() }).unwrap();
    assert_eq!(old.pods(), before, "where the pod alone is hashed, so does that one");
}

#[test]
fn removed_and_made_again_is_killed_and_created() {
    for first in [web("i", "a"), fixed("i", "a")] {
        let mut kubelet = after(Compares::Image, &[rename("web.yaml", first.clone())]);
        kubelet.apply(&Operation::Delete("web.yaml".into())).unwrap();
        kubelet.apply(&rename("web.yaml", first)).unwrap();
        assert_eq!(words(&mut kubelet), ["killed", "created"]);
    }
}

#[test]
fn every_name_without_a_leading_dot_is_a_manifest() {
    for file in ["web.yaml.bak", "README", "web", "web.json~"] {
        let kubelet = after(Compares::Image, &[rename(file, web("i", "a"))]);
        assert_eq!(names(&kubelet), ["web"], "{file}");
    }
    for file in [".web.yaml", "..web"] {
        let kubelet = after(Compares::Image, &[rename(file, web("i", "a")), Operation::Relist]);
        assert!(names(&kubelet).is_empty(), "{file}");
    }
    let link = Operation::Symlink { file: "link.yaml".into(), target: ".web".into() };
    assert_eq!(names(&after(Compares::Image, &[rename(".web", web("i", "a")), link])), ["web"]);
}

#[test]
fn of_two_files_with_one_pod_the_last_wins_and_touching_flaps() {
    let mut kubelet =
        after(Compares::Image, &[rename("a.yaml", web("i", "a")), rename("b.yaml", web("i", "b"))]);
    let argument = |kubelet: &Kubelet| {
        kubelet.pods().into_values().next().map(|pod| pod.containers["c"]["args"][0].clone())
    };
    assert_eq!((kubelet.pods().len(), argument(&kubelet)), (1, Some(json!("b"))));
    kubelet.apply(&Operation::Touch("a.yaml".into())).unwrap();
    assert_eq!((words(&mut kubelet), argument(&kubelet)), (vec!["killed", "created"], Some(json!("a"))));
    kubelet.apply(&Operation::Relist).unwrap();
    assert_eq!(argument(&kubelet), Some(json!("b")), "last in order");
    // Removing either takes the pod, until the next list finds the other.
    kubelet.apply(&Operation::Delete("a.yaml".into())).unwrap();
    assert!(kubelet.pods().is_empty());
    kubelet.apply(&Operation::Relist).unwrap();
    assert_eq!(argument(&kubelet), Some(json!("b")));
}

#[test]
fn what_is_no_manifest_does_not_concern_the_others() {
    let dangling = Operation::Symlink { file: "b.yaml".into(), target: "nowhere".into() };
    let circle = Operation::Symlink { file: "b.yaml".into(), target: "b.yaml".into() };
    let big = [web("i", "a"), vec![b' '; MAX_FILE]].concat();
    for operation in [
        write("b.yaml", b"\x00garbage".to_vec()),
        Operation::Subdirectory("b.yaml".into()),
        dangling,
        circle,
        write("b.yaml", big),
    ] {
        let mut kubelet = after(Compares::Image, &[rename("a.yaml", web("i", "a"))]);
        kubelet.apply(&operation).unwrap();
        kubelet.apply(&Operation::Relist).unwrap();
        assert!(words(&mut kubelet).is_empty());
        assert_eq!(names(&kubelet), ["web"]);
    }
}

#[test]
fn a_fifo_hangs_the_source_until_the_kubelet_restarts() {
    let mut kubelet = after(Compares::Image, &[Operation::Fifo("f".into()), Operation::Delete("f".into())]);
    assert!(kubelet.is_hung());
    kubelet.apply(&rename("web.yaml", web("i", "a"))).unwrap();
    kubelet.apply(&Operation::Relist).unwrap();
    assert!(kubelet.pods().is_empty());
    for operation in [Operation::StopKubelet, Operation::StartKubelet] {
        kubelet.apply(&operation).unwrap();
    }
    assert_eq!((kubelet.is_hung(), names(&kubelet)), (false, vec!["web".to_owned()]));
    // One that is there before the kubelet is only listed, and never opened.
    let mut kubelet = Kubelet::new("n", Compares::Image);
    for operation in [Operation::Fifo("f".into()), rename("web.yaml", web("i", "a")), Operation::StartKubelet]
    {
        kubelet.apply(&operation).unwrap();
    }
    assert_eq!((kubelet.is_hung(), kubelet.pods().len()), (false, 1));
}

#[test]
fn the_watch_stays_on_a_directory_that_was_moved_away() {
    let files = BTreeMap::from([("web.yaml".to_owned(), web("i", "new"))]);
    let mut kubelet = after(Compares::Image, &[rename("web.yaml", web("i", "old"))]);
    kubelet.apply(&Operation::ReplaceDirectory(files)).unwrap();
    kubelet.apply(&rename("other.yaml", manifest("other", None, "i", "a"))).unwrap();
    assert!(words(&mut kubelet).is_empty(), "nothing is heard of the new one");
    kubelet.apply(&Operation::Relist).unwrap();
    assert_eq!(names(&kubelet), ["other", "web"]);
    kubelet.take_happened();
    kubelet.apply(&Operation::RemoveReplaced).unwrap();
    assert_eq!(words(&mut kubelet), ["killed"], "removing the old one kills a pod of the new one");
    assert_eq!(names(&kubelet), ["other"]);
}

#[test]
fn a_removed_directory_kills_every_pod_and_the_watch() {
    let files = BTreeMap::from([("web.yaml".to_owned(), web("i", "a"))]);
    let mut kubelet = after(
        Compares::Image,
        &[rename("a.yaml", web("i", "a")), rename("b.yaml", manifest("b", None, "i", "a"))],
    );
    kubelet.apply(&Operation::RemoveDirectory).unwrap();
    assert_eq!((words(&mut kubelet), kubelet.pods().len()), (vec!["killed", "killed"], 0));
    kubelet.apply(&Operation::ReplaceDirectory(files)).unwrap();
    assert!(kubelet.pods().is_empty(), "nothing is heard of it");
    kubelet.apply(&Operation::Relist).unwrap();
    assert_eq!(names(&kubelet), ["web"], "it is polled only");
}

#[test]
fn a_kubelet_that_starts_before_its_files_kills_what_runs() {
    let mut kubelet = after(
        Compares::Image,
        &[rename("web.yaml", web("i", "a")), Operation::StopKubelet, Operation::Delete("web.yaml".into())],
    );
    kubelet.apply(&Operation::StartKubelet).unwrap();
    assert_eq!(words(&mut kubelet), ["killed"]);
    kubelet.apply(&rename("web.yaml", web("i", "a"))).unwrap();
    assert_eq!(words(&mut kubelet), ["created"]);
}

#[test]
fn only_the_first_document_is_read_a_list_is_none_and_of_two_keys_the_last_wins() {
    let two = [web("i", "a"), b"\n---\n".to_vec(), manifest("second", None, "i", "a")].concat();
    assert_eq!(names(&after(Compares::Image, &[rename("a.yaml", two)])), ["web"]);
    let pod: Value = serde_json::from_slice(&web("i", "a")).unwrap();
    let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [pod]}).to_string().into_bytes();
    assert!(names(&after(Compares::Image, &[rename("a.yaml", list)])).is_empty());
    let twice = b"apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nmetadata: {name: two}\nspec: {containers: [{name: c, image: i}]}\n";
    assert_eq!(names(&after(Compares::Image, &[rename("a.yaml", twice.to_vec())])), ["two"]);
}

/// A node without a kubelet.
struct NoKubelet;

impl Steps for NoKubelet {
    fn wait_for_list(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    fn stop_kubelet(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    fn start_kubelet(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The same operations leave the same files in a real directory as in the model.
#[test]
fn a_real_directory_takes_the_same_operations() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifests");
    std::fs::create_dir(&path).unwrap();
    let mut places: [Box<dyn Place>; 1] = [Box::new(Directory::new(&path, NoKubelet))];
    let mut kubelet = Kubelet::new("n", Compares::Image);
    let file = |name: &str| name.to_owned();
    for operation in [
        rename("a", b"1".to_vec()),
        write("b", b"2".to_vec()),
        Operation::StartKubelet,
        Operation::Move { from: file("b"), to: file("c") },
        Operation::Touch(file("c")),
        Operation::Chmod(file("c")),
        Operation::Symlink { file: file("l"), target: file("a") },
        Operation::Subdirectory(file("d")),
        Operation::Delete(file("d")),
        Operation::Relist,
        Operation::Fifo(file("f")),
        Operation::Delete(file("f")),
        Operation::ReplaceDirectory(BTreeMap::from([(file("n"), b"3".to_vec())])),
        Operation::RemoveReplaced,
        Operation::StopKubelet,
        rename("n", b"4".to_vec()),
    ] {
        kubelet.apply(&operation).unwrap();
        places.iter_mut().for_each(|place| place.apply(&operation).unwrap());
        let regular = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            entry.file_type().unwrap().is_file().then(|| (name, std::fs::read(entry.path()).unwrap()))
        };
        let files: BTreeMap<_, _> = std::fs::read_dir(&path).unwrap().filter_map(regular).collect();
        assert_eq!(files, kubelet.files(), "{operation:?}");
    }
    assert!(places[0].apply(&Operation::Delete(file("nothing"))).is_err());
    assert!(kubelet.apply(&Operation::Delete(file("nothing"))).is_err());
}
