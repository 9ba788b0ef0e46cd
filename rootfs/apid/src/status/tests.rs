//! From the kubelet's lists as the API's types have them to what is told of each pod.

use super::*;
use crate::klog;
use crate::kubelet::api::PodList;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A node's manifests, and what is seen of it.
struct Node {
    dir: TempDir,
    directory: Directory,
    known: Vec<Known>,
    findings: Findings,
}

const FILE: &str = "podium-default-web.yaml";

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Node { dir, directory: Directory::default(), known: Vec::new(), findings: Findings::default() }
    }

    /// A node with the one manifest `default/web`, UID `u-1`, one container `c` of image `i:1`.
    fn with_web() -> Self {
        let mut node = Node::new();
        node.put(FILE, &manifest("web", "u-1", "i:1").to_string());
        node
    }

    fn put(&mut self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(".next"), text).unwrap();
        std::fs::rename(self.dir.path().join(".next"), self.dir.path().join(name)).unwrap();
        self.directory.look(self.dir.path());
    }

    fn log(&mut self, text: &str) {
        let news = klog::read(&format!("E1124 03:29:20.123456     123 x.go:1] {text}")).unwrap();
        self.findings.take(news, &self.directory);
    }

    fn pods(&self, list: &Value) -> Vec<PodStatus> {
        let list: PodList = serde_json::from_value(json!({"kind": "PodList", "items": list})).unwrap();
        self.derive(Ok(&list.items))
    }

    fn derive(&self, kubelet: Result<&[Pod], &str>) -> Vec<PodStatus> {
        derive(&Seen { directory: &self.directory, known: &self.known, kubelet, findings: &self.findings })
    }

    fn pod(&self, list: &Value) -> PodStatus {
        let mut pods = self.pods(list);
        assert_eq!(pods.len(), 1, "{pods:#?}");
        pods.remove(0)
    }
}

fn manifest(name: &str, uid: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// The kubelet's view of it, with a status.
fn pod(status: &Value) -> Value {
    json!({"metadata": {"name": "web-node-1", "namespace": "default", "uid": "u-1", "creationTimestamp": null,
            "annotations": {"kubernetes.io/config.source": "file"}},
        "spec": {"nodeName": "Node-1", "initContainers": null, "containers": [
            {"name": "c", "image": "i:1", "resources": {}, "imagePullPolicy": "Never"}]},
        "status": status})
}

/// With one container in a state.
fn in_state(phase: &str, ready: bool, state: &Value, last: &Value, restarts: u32) -> Value {
    let yes = if ready { "True" } else { "False" };
    pod(&json!({"phase": phase, "startTime": "2026-11-24T03:29:20Z", "podIP": "10.85.0.2",
        "conditions": [
            {"type": "Initialized", "status": "True", "lastProbeTime": null},
            {"type": "Ready", "status": yes, "reason": "ContainersNotReady",
             "message": "containers with unready status: [c]"}],
        "containerStatuses": [{"name": "c", "ready": ready, "restartCount": restarts, "image": "i:1",
            "imageID": "sha256:0", "state": state, "lastState": last}]}))
}

fn waiting(reason: &str, message: &str) -> Value {
    in_state("Pending", false, &json!({"waiting": {"reason": reason, "message": message}}), &json!({}), 0)
}

fn reason(status: &PodStatus) -> (&str, &str, &str, bool) {
    (&status.phase, &status.reason, &status.message, status.ready)
}

#[test]
fn a_running_pod_is_ready_and_has_no_reason() {
    let node = Node::with_web();
    let list = json!([in_state(
        "Running",
        true,
        &json!({"running": {"startedAt": "2026-11-24T03:29:21Z"}}),
        &json!({}),
        2
    )]);
    let status = node.pod(&list);
    assert_eq!(reason(&status), ("Running", "", "", true));
    assert_eq!(
        (status.id.as_str(), status.name.as_str(), status.uid.as_str()),
        ("default-web", "web", "u-1")
    );
    assert_eq!((status.pod_ip.as_str(), status.started_at.as_str()), ("10.85.0.2", "2026-11-24T03:29:20Z"));
    let container = &status.containers[0];
    assert_eq!(
        (container.state, container.ready, container.restarts, container.image.as_str()),
        ("running", true, 2, "i:1")
    );
    assert!(status.is_settled());
}

#[test]
fn a_container_that_cannot_start_says_why() {
    let node = Node::with_web();
    for (word, message) in [
        ("ErrImagePull", "rpc error: code = NotFound"),
        ("ImagePullBackOff", "Back-off pulling image \"i:1\""),
        ("ErrImageNeverPull", "Container image \"i:1\" is not present with pull policy of Never"),
        ("InvalidImageName", "couldn't parse image reference"),
        ("CreateContainerConfigError", "secret \"x\" not found"),
        ("CreateContainerError", "context deadline exceeded"),
        ("RunContainerError", "exec: \"nothing\": executable file not found"),
    ] {
        let status = node.pod(&json!([waiting(word, message)]));
        assert_eq!(reason(&status), ("Pending", word, message, false));
        assert_eq!(status.containers[0].reason, word);
        assert!(!status.is_settled());
    }
}

#[test]
fn a_crashing_container_says_how_it_ended() {
    let node = Node::with_web();
    let ended = |code: i32, message: &str| {
        json!({"terminated": {"exitCode": code, "reason": "Error", "message": message,
        "startedAt": "2026-11-24T03:29:21Z", "finishedAt": "2026-11-24T03:29:22Z"}})
    };
    let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=c"}});
    let status = node.pod(&json!([in_state("Running", false, &state, &ended(3, ""), 4)]));
    assert_eq!(
        reason(&status),
        (
            "Running",
            "CrashLoopBackOff",
            "back-off 10s restarting failed container=c; it ended with code 3",
            false
        )
    );
    assert_eq!(status.containers[0].restarts, 4);
    let status = node.pod(&json!([in_state("Running", false, &ended(1, "no config\n"), &json!({}), 0)]));
    assert_eq!(reason(&status), ("Running", "Error", "code 1: no config", false));
    let killed = json!({"terminated": {"exitCode": 137, "signal": 9, "reason": "OOMKilled"}});
    let status = node.pod(&json!([in_state("Running", false, &killed, &json!({}), 0)]));
    assert_eq!(reason(&status), ("Running", "OOMKilled", "signal 9", false));
}

#[test]
fn a_pod_that_has_done_its_work_has_no_reason() {
    let node = Node::with_web();
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let status = node.pod(&json!([in_state("Succeeded", false, &ended, &json!({}), 0)]));
    assert_eq!(reason(&status), ("Succeeded", "", "", false));
    assert!(status.is_settled());
}

#[test]
fn a_pod_that_is_not_admitted_says_why() {
    let node = Node::with_web();
    for word in ["OutOfpods", "OutOfcpu", "NodeAffinity", "UnexpectedAdmissionError", "Evicted"] {
        let status = node.pod(&json!([pod(
            &json!({"phase": "Failed", "reason": word, "message": "Pod Node didn't have enough"})
        )]));
        assert_eq!(reason(&status), ("Failed", word, "Pod Node didn't have enough", false));
        assert_eq!(status.containers[0].state, "unknown");
    }
}

#[test]
fn init_containers_come_first_and_hold_up_the_others() {
    let mut node = Node::new();
    let mut with_init = manifest("web", "u-1", "i:1");
    with_init["spec"]["initContainers"] = json!([{"name": "first", "image": "i:2"}]);
    node.put(FILE, &with_init.to_string());
    let mut told = waiting("PodInitializing", "");
    told["spec"]["initContainers"] = json!([{"name": "first", "image": "i:2"}]);
    let init = |state: Value| json!([{"name": "first", "state": state}]);
    told["status"]["initContainerStatuses"] = init(json!({"running": {}}));
    let status = node.pod(&json!([told]));
    assert_eq!(reason(&status), ("Pending", "PodInitializing", "", false));
    assert_eq!(status.containers[0].name, "first");
    told["status"]["initContainerStatuses"] =
        init(json!({"waiting": {"reason": "ImagePullBackOff", "message": "m"}}));
    assert_eq!(reason(&node.pod(&json!([told]))), ("Pending", "ImagePullBackOff", "m", false));
    // One that is done is no reason.
    told["status"]["initContainerStatuses"] =
        init(json!({"terminated": {"exitCode": 0, "reason": "Completed"}}));
    assert_eq!(reason(&node.pod(&json!([told]))).1, "PodInitializing");
}

#[test]
fn why_a_sandbox_cannot_be_made_comes_from_the_log() {
    let mut node = Node::with_web();
    let creating = json!([waiting("ContainerCreating", "")]);
    assert_eq!(reason(&node.pod(&creating)), ("Pending", "ContainerCreating", "", false));
    node.log(
        "Error syncing pod u-1 (\"web-node-1_default(u-1)\"), skipping: failed to \"CreatePodSandbox\" for \
        \"web\" with CreatePodSandboxError: \"no network\"",
    );
    assert_eq!(reason(&node.pod(&creating)), ("Pending", "CreatePodSandboxError", "no network", false));
    // What the kubelet's status says goes before what its log said once.
    assert_eq!(reason(&node.pod(&json!([waiting("ErrImagePull", "m")]))).1, "ErrImagePull");
    node.findings.prune(&node.directory, Some(&[]));
    assert_eq!(reason(&node.pod(&creating)).1, "ContainerCreating", "forgotten with the pod");
}

#[test]
fn what_the_kubelet_refuses_to_read_is_shown_with_the_pod_until_the_file_changes() {
    let mut node = Node::with_web();
    assert_eq!(
        reason(&node.pod(&json!([]))),
        ("Pending", "NotSeen", "the kubelet has not taken it up yet", false)
    );
    node.log(
        "Can't process manifest file \"/etc/kubernetes/manifests/podium-default-web.yaml\": invalid pod: [x]",
    );
    let status = node.pod(&json!([]));
    assert_eq!(reason(&status), ("Failed", "Rejected", "invalid pod: [x]", false));
    assert!(status.is_settled() && status.containers[0].name == "c");
    assert_eq!(node.derive(Err("down"))[0].reason, "Rejected", "it stays known while the kubelet is away");
    node.put(FILE, &manifest("web", "u-1", "i:3").to_string());
    node.findings.prune(&node.directory, None);
    assert_eq!(node.pod(&json!([])).reason, "NotSeen");
}

#[test]
fn a_refused_list_is_the_reason_of_each_pod_that_is_not_there() {
    let mut node = Node::with_web();
    node.log("Failed to read pods from URL: invalid pod: [x]");
    assert_eq!(reason(&node.pod(&json!([]))), ("Failed", "Rejected", "invalid pod: [x]", false));
    node.put("podium-default-b.yaml", &manifest("b", "u-2", "i").to_string());
    node.findings.prune(&node.directory, None);
    assert!(node.pods(&json!([])).iter().all(|pod| pod.reason == "NotSeen"));
}

#[test]
fn an_older_version_in_the_kubelet_is_not_taken_for_the_new_one() {
    let mut node = Node::with_web();
    let list = json!([in_state("Running", true, &json!({"running": {}}), &json!({}), 0)]);
    assert!(node.pod(&list).ready);
    node.put(FILE, &manifest("web", "u-1", "i:2").to_string());
    assert_eq!(reason(&node.pod(&list)).1, "Updating", "another image");
    assert!(!node.pod(&list).ready && !node.pod(&list).is_settled());
    node.put(FILE, &manifest("web", "u-2", "i:1").to_string());
    let status = node.pod(&list);
    assert_eq!((status.reason.as_str(), status.uid.as_str()), ("Updating", "u-2"), "another UID");
}

#[test]
fn what_pid_1_refused_is_listed_with_its_problems() {
    let mut node = Node::with_web();
    let known = |name: &str, file: &str| Known {
        id: format!("default-{name}"),
        namespace: "default".into(),
        name: name.into(),
        file: file.into(),
        problems: vec!["line 9: x".into(), "line 10: y".into()],
        ..Known::default()
    };
    node.known = vec![known("bad", ""), known("web", FILE)];
    let pods = node.pods(&json!([in_state("Running", true, &json!({"running": {}}), &json!({}), 0)]));
    assert_eq!(pods[0].id, "default-bad");
    assert_eq!(reason(&pods[0]), ("Failed", "Invalid", "line 9: x; line 10: y", false));
    let message = "the newest version is refused, the one before runs on: line 9: x; line 10: y";
    assert_eq!(reason(&pods[1]), ("Running", "Invalid", message, true));
    node.known = vec![Known { valid: true, ..known("new", "podium-default-new.yaml") }];
    assert_eq!(node.pods(&json!([]))[0].reason, "NoManifest");
    let held = |file: &str| Known { valid: true, held: "a port".into(), ..known("new", file) };
    node.known = vec![held("")];
    let pods = node.pods(&json!([]));
    let pod = pods.iter().find(|pod| pod.id == "default-new").unwrap();
    assert_eq!(
        (pod.phase.as_str(), pod.reason.as_str(), pod.message.as_str()),
        ("Pending", "Held", "a port")
    );
}

#[test]
fn without_a_kubelet_the_manifests_are_what_is_known() {
    let node = Node::with_web();
    let pods = node.derive(Err("connection refused"));
    assert_eq!(reason(&pods[0]), ("Unknown", "KubeletUnreachable", "see what is said of the kubelet", false));
    assert_eq!((pods[0].containers[0].image.as_str(), pods[0].containers[0].state), ("i:1", "unknown"));
}

#[test]
fn pods_of_others_are_listed_by_their_own_names() {
    let mut node = Node::new();
    node.put("theirs.yaml", "metadata: {name: web}\nspec: {containers: [{name: c, image: 'i:1'}]}\n");
    node.put("garbage.yaml", "[");
    let mut elsewhere = in_state("Running", true, &json!({"running": {}}), &json!({}), 0);
    elsewhere["metadata"]["name"] = json!("far-node-1");
    elsewhere["metadata"]["uid"] = json!("u-9");
    let list = json!([in_state("Running", true, &json!({"running": {}}), &json!({}), 0), elsewhere]);
    let pods = node.pods(&list);
    let all: Vec<_> = pods.iter().map(|pod| (pod.id.as_str(), pod.uid.as_str(), pod.ready)).collect();
    assert_eq!(
        all,
        [("default-far", "u-9", true), ("default-web", "u-1", true), ("garbage.yaml", "", false)]
    );
}

#[test]
fn of_two_manifests_with_one_name_the_kubelet_has_one_and_the_other_says_so() {
    let mut node = Node::with_web();
    node.put("theirs.yaml", "metadata: {name: web}\nspec: {containers: [{name: c, image: 'i:1'}]}\n");
    let pods = node.pods(&json!([in_state("Running", true, &json!({"running": {}}), &json!({}), 0)]));
    assert_eq!(pods.len(), 2);
    let (ours, theirs): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod.uid == "u-1");
    assert!(ours[0].ready, "{pods:#?}");
    assert_eq!((theirs[0].phase.as_str(), theirs[0].reason.as_str()), ("Failed", "Duplicate"));
}

#[test]
fn a_list_with_nulls_and_unknown_fields_is_read() {
    let list: PodList = serde_json::from_str(
        r#"{"kind":"PodList","metadata":{},"items":[{"metadata":null,"spec":null,"status":null,"new":[{}]},
            {"status":{"containerStatuses":null,"conditions":null,"phase":null}}]}"#,
    )
    .unwrap();
    assert_eq!(list.items.len(), 2);
    assert!(serde_json::from_str::<PodList>(r#"{"items":null}"#).unwrap().items.is_empty());
    let node = Node::new();
    assert_eq!(node.derive(Ok(&list.items)).len(), 2);
}
