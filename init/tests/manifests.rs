//! Pods in, manifests and problems out: the rules one by one, and what must hold for every input.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use podium_init::config::{Problem, Severity};
use podium_init::manifests::{HostPort, MAX_ID, MAX_PROBLEMS, Manifest, Protocol, breached, plan, rules};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A pod that keeps every rule.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "c", "image": "nginx", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }
    })
}

/// `pod("a")` with one value put at a JSON pointer, whose last step may be new.
fn pod_with(pointer: &str, value: Value) -> Value {
    let mut pod = pod("a");
    put(&mut pod, pointer, value);
    pod
}

fn put(at: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if at.pointer(parent).is_none() {
        put(at, parent, json!({}));
    }
    match at.pointer_mut(parent).unwrap() {
        Value::Array(list) if key.parse() == Ok(list.len()) => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        parent => parent[key.replace("~1", "/")] = value,
    }
}

fn plan_of(pods: &[Value]) -> (Vec<Manifest>, Vec<Problem>) {
    plan(pods, &|_| None)
}

/// `path: message` of each problem, without the path of the pod itself.
fn said(problems: &[Problem]) -> Vec<String> {
    let short = |path: &str| path.replace("machine.pods[0].", "");
    problems.iter().map(|problem| format!("{}: {}", short(&problem.path), problem.message)).collect()
}

#[test]
fn a_pod_that_keeps_every_rule_is_rendered() {
    let (manifests, problems) = plan_of(&[pod("a")]);
    assert_eq!(problems, []);
    let [manifest] = manifests.as_slice() else { panic!("{manifests:?}") };
    assert_eq!(manifest.id, "default-a");
    assert_eq!((manifest.namespace.as_str(), manifest.name.as_str()), ("default", "a"));
    assert_eq!(manifest.file, "podium-default-a.yaml");
    assert_eq!(manifest.containers, ["c"]);
    assert!(manifest.init_containers.is_empty() && manifest.host_ports.is_empty());
    let expected = format!(
        r#"{{
  "apiVersion": "v1",
  "kind": "Pod",
  "metadata": {{
    "name": "a",
    "namespace": "default",
    "uid": "{}"
  }},
  "spec": {{
    "containers": [
      {{
        "image": "nginx",
        "name": "c",
        "volumeMounts": [
          {{
            "mountPath": "/v",
            "name": "v"
          }}
        ]
      }}
    ],
    "volumes": [
      {{
        "emptyDir": {{}},
        "name": "v"
      }}
    ]
  }}
}}
"#,
        manifest.uid
    );
    assert_eq!(manifest.bytes, expected);
}

/// One of `manifests/cases.yaml`; that file says what the keys mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    put: BTreeMap<String, Value>,
    says: Option<Said>,
    warns: Option<String>,
    ok: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    One(String),
    Several(Vec<String>),
}

fn cases() -> Vec<(Value, Case)> {
    let cases: Vec<Case> = serde_yaml::from_str(include_str!("manifests/cases.yaml")).unwrap();
    let pod = |case: &Case| {
        let mut pod = pod("a");
        case.put.iter().for_each(|(pointer, value)| put(&mut pod, pointer, value.clone()));
        pod
    };
    cases.into_iter().map(|case| (pod(&case), case)).collect()
}

/// Exactly this is said, and the pod is refused or it is not.
#[test]
fn each_case_is_told_at_its_place() {
    let mut failed = Vec::new();
    for (pod, case) in cases() {
        let (manifests, problems) = plan_of(&[pod]);
        let (expected, runs) = match (case.says, case.warns, case.ok) {
            (Some(Said::One(says)), None, None) => (vec![says], false),
            (Some(Said::Several(says)), None, None) => (says, false),
            (None, Some(warns), None) => (vec![warns], true),
            (None, None, Some(true)) => (Vec::new(), true),
            _ => panic!("says, warns or ok: {:?}", case.put),
        };
        let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
        assert!(problems.iter().all(|problem| problem.pod.is_some()), "it stops the config: {:?}", case.put);
        if said(&problems) != expected || manifests.len() != usize::from(runs) || refused == runs {
            failed.push(format!("{:?}\n  expected {expected:?}\n  said     {:?}", case.put, said(&problems)));
        }
    }
    assert!(failed.is_empty(), "{} cases:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_rule_has_a_case_and_a_source() {
    let cases = cases();
    let mistakes = cases.iter().filter(|(_, case)| case.ok.is_none()).count();
    assert!(cases.len() >= 200 && mistakes >= 100, "{mistakes} mistakes in {} cases", cases.len());
    let mut tried: BTreeSet<&str> = cases.iter().flat_map(|(pod, _)| breached(pod)).collect();
    // Those two whose cases are too long for the file have their own tests.
    tried.extend(["annotation size", "id length"]);
    let known = rules();
    let names: BTreeSet<&str> = known.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), known.len(), "two rules of one name");
    let untried: Vec<_> = names.difference(&tried).collect();
    assert!(untried.is_empty(), "rules without a case: {untried:?}");
    assert!(tried.is_subset(&names), "rules without a line: {:?}", tried.difference(&names));
    for (name, source) in known {
        let told = source.split_once(": ").is_some_and(|(file, what)| {
            (file == "Podium" || file.ends_with(".go")) && what.starts_with(char::is_alphabetic)
        });
        assert!(told, "{name}: {source}");
    }
}

#[test]
fn annotations_are_bounded_together() {
    let annotations = json!({"a": "x".repeat(262_144)});
    let pod = pod_with("/metadata/annotations", annotations);
    assert_eq!(breached(&pod), BTreeSet::from(["annotation size"]));
    let (manifests, problems) = plan_of(&[pod]);
    assert!(manifests.is_empty());
    let expected = "metadata.annotations: 262145 bytes are more than the 262144 that Kubernetes takes";
    assert_eq!(said(&problems), [expected]);
}

/// A cluster shows a static pod as a mirror pod; written back, it must not be taken for one.
#[test]
fn a_mirror_pod_becomes_a_pod_again() {
    let own = ["config.hash", "config.mirror", "config.seen", "config.source"];
    let annotations: BTreeMap<_, _> = own
        .iter()
        .map(|name| (format!("kubernetes.io/{name}"), "x"))
        .chain([("a".to_owned(), "b")])
        .collect();
    let (manifests, problems) = plan_of(&[pod_with("/metadata/annotations", json!(annotations))]);
    assert_eq!(problems.len(), own.len());
    assert_eq!(manifests, plan_of(&[pod_with("/metadata/annotations", json!({"a": "b"}))]).0);
}

/// What Kubernetes takes is taken, in silence.
#[test]
fn what_kubernetes_takes_is_taken() {
    let cases: &[(&str, Value)] = &[
        ("/metadata/namespace", json!("kube-system")),
        ("/metadata/namespace", json!("")),
        ("/metadata/namespace", Value::Null),
        ("/metadata/name", json!("a.b-c.0")),
        ("/metadata/creationTimestamp", Value::Null),
        ("/metadata/labels", json!({"app.kubernetes.io/name": "x", "tier": ""})),
        ("/metadata/annotations", json!({"Example.org/x": "any text\n"})),
        ("/status", json!({})),
        ("/spec/restartPolicy", json!("OnFailure")),
        ("/spec/tolerations", json!([{"operator": "Exists"}])),
        ("/spec/securityContext", json!({"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}})),
        ("/spec/priority", json!(2_000_001_000)),
        (
            "/spec/containers/0/resources",
            json!({"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": 1.5}}),
        ),
        ("/spec/containers/0/env", json!([{"name": "my.var", "value": "yes"}, {"name": "B", "value": ""}])),
        (
            "/spec/containers/0/env",
            json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 3}),
        ),
        ("/spec/containers/0/startupProbe", json!({"exec": {"command": ["true"]}})),
        ("/spec/containers/0/ports", json!([{"containerPort": 80, "name": "http"}, {"containerPort": 80}])),
        ("/spec/containers/0/volumeMounts/0/subPath", json!("a/b")),
        (
            "/spec/volumes/1",
            json!({"name": "h", "hostPath": {"path": "/var/x", "type": "DirectoryOrCreate"}}),
        ),
        ("/spec/volumes/1", json!({"name": "d", "downwardAPI": {"items": []}})),
        ("/spec/volumes/0/emptyDir", json!({"medium": "HugePages-2Mi", "sizeLimit": "1Gi"})),
        ("/spec/initContainers", json!([{"name": "i", "image": "x"}])),
        (
            "/spec/initContainers",
            json!([{"name": "s", "image": "x", "restartPolicy": "Always", "livenessProbe": {"tcpSocket": {"port": 1}}}]),
        ),
    ];
    for (pointer, value) in cases {
        let (manifests, problems) = plan_of(&[pod_with(pointer, value.clone())]);
        assert_eq!(said(&problems), [""; 0], "{pointer} = {value}");
        assert_eq!(manifests.len(), 1, "{pointer} = {value}");
    }
}

#[test]
fn all_mistakes_of_a_pod_are_told_at_once() {
    let mut bad = pod_with("/spec/containers/0/imagePullPolcy", json!("Always"));
    put(&mut bad, "/spec/hostNetwrok", json!(true));
    put(&mut bad, "/spec/containers/0/stdin", json!("true"));
    put(&mut bad, "/spec/containers/0/command", json!(["sleep", 3600]));
    let (manifests, problems) = plan_of(&[bad]);
    assert!(manifests.is_empty());
    assert_eq!(
        said(&problems),
        [
            "spec.containers[0].command[1]: expected a string, found the number 3600",
            "spec.containers[0].imagePullPolcy: unknown field, did you mean imagePullPolicy?",
            "spec.containers[0].stdin: expected true or false, found the string \"true\"",
            "spec.hostNetwrok: unknown field, did you mean hostNetwork?",
        ]
    );
    assert_eq!(problems[0].remedy.as_deref(), Some("put it in quotes: \"3600\""));
    assert_eq!(problems[2].remedy.as_deref(), Some("leave the quotes out: true"));
}

#[test]
fn a_problem_has_the_line_of_its_path() {
    let bad = pod_with("/spec/podz", json!(1));
    let (_, problems) = plan(&[bad], &|path| (path == "machine.pods[0].spec.podz").then_some((12, 5)));
    assert_eq!((problems[0].line, problems[0].column), (Some(12), Some(5)));
}

#[test]
fn one_bad_pod_never_stops_another() {
    let bad = [Value::Null, json!("pod"), json!([]), json!({}), pod_with("/spec", json!({})), pod("A b")];
    for (index, bad) in bad.into_iter().enumerate() {
        let (manifests, problems) = plan_of(&[pod("before"), bad, pod("after")]);
        let ids: Vec<_> = manifests.iter().map(|manifest| manifest.id.as_str()).collect();
        assert_eq!(ids, ["default-before", "default-after"], "{index}");
        assert!(!problems.is_empty(), "{index}");
        assert!(
            problems.iter().all(|problem| problem.path.starts_with("machine.pods[1]")),
            "{index}: {problems:?}"
        );
    }
}

#[test]
fn two_pods_with_one_id_are_both_refused_and_both_named() {
    let mut other = pod("b-c");
    put(&mut other, "/metadata/namespace", json!("a"));
    let mut same_id = pod("c");
    put(&mut same_id, "/metadata/namespace", json!("a-b"));
    for pair in [[pod("x"), pod("x")], [other, same_id]] {
        let (manifests, problems) = plan_of(&[pair[0].clone(), pod("y"), pair[1].clone()]);
        assert_eq!(manifests.len(), 1);
        assert_eq!(manifests[0].id, "default-y");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.starts_with("pods[0] and pods[2] both have the ID "), "{}", problems[0]);
    }
    let (manifests, problems) = plan_of(&[pod("x"), pod_with("/metadata/name", json!("x")), pod("x")]);
    assert_eq!((manifests.len(), problems.len()), (0, 2));
}

#[test]
fn an_id_is_shared_with_a_refused_pod_too() {
    let mut bad = pod("x");
    put(&mut bad, "/spec/bad", json!(1));
    let (manifests, problems) = plan_of(&[pod("x"), bad]);
    assert!(manifests.is_empty(), "which of the two was meant cannot be told");
    assert_eq!(problems.len(), 2);
}

fn with_ports(name: &str, host_network: bool, ports: Value) -> Value {
    let mut pod = pod(name);
    put(&mut pod, "/spec/hostNetwork", json!(host_network));
    put(&mut pod, "/spec/containers/0/ports", ports);
    pod
}

#[test]
fn a_host_port_belongs_to_the_first_pod_that_wants_it() {
    let first = with_ports("a", false, json!([{"containerPort": 80, "hostPort": 8080}]));
    let second = with_ports("b", true, json!([{"containerPort": 8080}]));
    let third = with_ports("c", false, json!([{"containerPort": 1, "hostPort": 8080, "protocol": "UDP"}]));
    let (manifests, problems) = plan_of(&[first, second, third]);
    let ports: Vec<_> =
        manifests.iter().map(|manifest| (manifest.id.as_str(), manifest.host_ports.clone())).collect();
    let port = |protocol| vec![HostPort { number: 8080, protocol, address: None }];
    assert_eq!(ports, [("default-a", port(Protocol::Tcp)), ("default-c", port(Protocol::Udp))]);
    assert_eq!(
        said(&problems),
        ["machine.pods[1].spec: default-b wants host port 8080 (TCP), which default-a has"]
    );
    assert_eq!(problems[0].pod.as_deref(), Some("default-b"));
}

#[test]
fn a_refused_pod_takes_no_host_port() {
    let mut bad = with_ports("a", false, json!([{"containerPort": 80, "hostPort": 8080}]));
    put(&mut bad, "/spec/bad", json!(1));
    let good = with_ports("b", false, json!([{"containerPort": 80, "hostPort": 8080}]));
    let (manifests, _) = plan_of(&[bad, good]);
    assert_eq!(manifests.len(), 1);
}

#[test]
fn host_ports_collide_by_address() {
    let on = |name, ip: &str| {
        with_ports(name, false, json!([{"containerPort": 80, "hostPort": 80, "hostIP": ip}]))
    };
    assert_eq!(plan_of(&[on("a", "10.0.0.1"), on("b", "10.0.0.2")]).0.len(), 2);
    assert_eq!(plan_of(&[on("a", "10.0.0.1"), on("b", "10.0.0.1")]).0.len(), 1);
    assert_eq!(plan_of(&[on("a", "10.0.0.1"), on("b", "0.0.0.0")]).0.len(), 1);
    assert_eq!(plan_of(&[on("a", ""), on("b", "::1")]).0.len(), 1);
}

#[test]
fn one_pod_wants_a_host_port_once() {
    let twice = json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]);
    let (manifests, problems) = plan_of(&[with_ports("a", false, twice)]);
    assert!(manifests.is_empty());
    assert_eq!(problems[0].message, "default-a wants host port 80 (TCP) twice");
}

#[test]
fn strings_survive_that_yaml_would_turn_into_something_else() {
    let words = [
        "yes",
        "0755",
        "1e3",
        "~",
        "null",
        "0x10",
        "1_000",
        "-",
        "?",
        "a: b",
        "#",
        " x ",
        "\u{7f}\u{85}\u{2028}\u{feff}\u{ffff}ä",
        "%",
        "@",
        "*a",
        "&a",
        "!x",
        "'",
        "\"",
        "2026-01-01",
        ".inf",
        "=",
        "<<",
        "\t",
        "\n",
        "",
    ];
    let (manifests, problems) = plan_of(&[pod_with("/spec/containers/0/args", json!(words))]);
    assert_eq!(problems, []);
    for read in [
        serde_json::from_str::<Value>(&manifests[0].bytes).unwrap(),
        serde_yaml::from_str::<Value>(&manifests[0].bytes).unwrap(),
    ] {
        assert_eq!(read["spec"]["containers"][0]["args"], json!(words));
    }
}

#[test]
fn a_config_in_yaml_becomes_the_manifest_that_it_says() {
    let text = r#"
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {on: "yes", mode: "0755"}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
    - name: c
      image: nginx
      args: [yes, 0755, "1e3", "~"]
      resources: {limits: {cpu: 1, memory: 1e9}, requests: {cpu: 0.5}}
      readinessProbe: {httpGet: {port: http}}
      ports: [{name: http, containerPort: 80}]
"#;
    let (manifests, problems) = plan_of(&[serde_yaml::from_str(text).unwrap()]);
    assert_eq!(problems, []);
    let written: Value = serde_json::from_str(&manifests[0].bytes).unwrap();
    let container = &written["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["yes", "0755", "1e3", "~"]));
    assert_eq!(
        container["resources"],
        json!({"limits": {"cpu": "1", "memory": "1000000000"}, "requests": {"cpu": "0.5"}})
    );
    assert_eq!(written["spec"]["terminationGracePeriodSeconds"], json!(5));
}

#[test]
fn what_the_server_sets_is_left_out_and_said() {
    let mut copied = pod("a");
    let clean = plan_of(&[copied.clone()]).0.remove(0);
    put(&mut copied, "/metadata/uid", json!("2f1b0c3e-0000-4000-8000-000000000000"));
    put(&mut copied, "/metadata/resourceVersion", json!("12"));
    put(&mut copied, "/metadata/creationTimestamp", json!("2026-01-31T12:00:00Z"));
    put(&mut copied, "/metadata/managedFields", json!([{"manager": "x", "fieldsV1": {"f:spec": {}}}]));
    put(&mut copied, "/status", json!({"phase": "Failed"}));
    let (manifests, problems) = plan_of(&[copied]);
    assert_eq!(manifests, [clean], "it is the same pod as without");
    assert_eq!(
        said(&problems),
        [
            "status: is the kubelet's to say",
            "metadata.creationTimestamp: is set by the API server alone",
            "metadata.managedFields: is set by the API server alone",
            "metadata.resourceVersion: is set by the API server alone",
            "metadata.uid: is derived from the pod's content here",
        ]
    );
    assert!(problems.iter().all(|problem| problem.severity == Severity::Warning));
}

#[test]
fn a_pod_is_bounded() {
    let at_most = "x".repeat(MAX_ID - "default".len());
    assert_eq!(plan_of(&[pod(&at_most)]).0.len(), 1);
    let (manifests, problems) = plan_of(&[pod(&format!("{at_most}x"))]);
    assert!(manifests.is_empty());
    assert_eq!(said(&problems), ["metadata.name: with the namespace it has 151 letters, more than 150"]);
    let big = pod_with("/spec/containers/0/args", json!(["x".repeat(1 << 20)]));
    let (manifests, problems) = plan_of(&[big]);
    assert!(manifests.is_empty());
    assert!(problems[0].message.starts_with("the manifest has 1049"), "{}", problems[0]);
}

#[test]
fn a_plan_that_is_wrong_everywhere_is_bounded() {
    let mut pods = vec![Value::Null; 100_000];
    pods.push(pod("last"));
    let (manifests, problems) = plan_of(&pods);
    assert_eq!(manifests.len(), 1);
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert_eq!(problems[MAX_PROBLEMS].to_string(), "machine.pods: 99000 more problems in pods");
    assert!(problems.iter().all(|problem| !problem.stops_config()));
}

#[test]
fn a_request_above_the_limit_names_both() {
    let resources = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}});
    let (_, problems) = plan_of(&[pod_with("/spec/containers/0/resources", resources)]);
    assert_eq!(
        said(&problems),
        ["spec.containers[0].resources.requests.memory: 1Gi is more than the limit, 1G"]
    );
}

#[test]
fn doubtful_things_are_warned_about_and_run() {
    let cases = [
        ("/spec/containers/0/resources", json!({"limits": {"memory": "512m"}})),
        ("/spec/containers/0/livenessProbe", json!({"httpGet": {"port": "web"}})),
    ];
    for (pointer, value) in cases {
        let (manifests, problems) = plan_of(&[pod_with(pointer, value)]);
        assert_eq!(manifests.len(), 1, "{pointer}");
        assert_eq!(problems.len(), 1, "{pointer}");
        assert_eq!(problems[0].severity, Severity::Warning, "{pointer}");
    }
}
