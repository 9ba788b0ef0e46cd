//! The real programs, `apid api` and `apid serve`, driven over real TLS by every kind of client, with a PID 1 that
//! does what a test says.

#[path = "api/authority.rs"]
mod authority;
#[path = "api/client.rs"]
mod client;
#[path = "api/init.rs"]
mod init;
#[path = "api/node.rs"]
mod node;

use authority::Authority;
use client::{Channel, LIMIT};
use node::{Node, in_use};
use podium_wire::common::ContainerDriver;
use podium_wire::cosi::{EventType, GetRequest, WatchOptions, WatchRequest, WatchResponse};
use podium_wire::machine::apply_configuration_request::Mode;
use podium_wire::machine::{
    ApplyConfigurationRequest, DiskUsageRequest, EventsRequest, ListRequest, LogsRequest, ReadRequest,
    RebootRequest, ResetRequest, ServiceStopRequest,
};
use podium_wire::resources::{MACHINE_CONFIGS, RESOURCE_DEFINITIONS, SERVICES, STATIC_PODS};
use podium_wire::roles::{METHODS, Role};
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tonic::{Code, Streaming};

const UNKNOWN: [&str; 4] = [
    "/machine.MachineService/Upgrade",
    "/machine.MachineService/version",
    "/cosi.resource.State/Create",
    "/x",
];

async fn next<T>(stream: &mut Streaming<T>) -> T {
    timeout(LIMIT, stream.message()).await.expect("a message").expect("no error").expect("no end")
}

/// The text of a stream of bytes to its end.
async fn all(stream: Streaming<podium_wire::common::Data>) -> Result<String, tonic::Status> {
    let mut stream = stream;
    let mut text = Vec::new();
    while let Some(data) = timeout(LIMIT, stream.message()).await.expect("a message")? {
        text.extend_from_slice(&data.bytes);
    }
    Ok(String::from_utf8(text).unwrap())
}

fn logs(namespace: &str, id: &str) -> LogsRequest {
    let driver = if namespace == "k8s.io" { ContainerDriver::Cri } else { ContainerDriver::Containerd };
    LogsRequest {
        namespace: namespace.to_owned(),
        id: id.to_owned(),
        driver: driver.into(),
        follow: false,
        tail_lines: -1,
    }
}

fn watch(kind: &str, namespace: &str) -> WatchRequest {
    WatchRequest {
        namespace: namespace.to_owned(),
        r#type: kind.to_owned(),
        id: None,
        options: Some(WatchOptions { bootstrap_contents: true, aggregated: true, ..WatchOptions::default() }),
        api_version: 1,
    }
}

/// Kind, id and version of the next events.
async fn events(stream: &mut Streaming<WatchResponse>) -> Vec<(EventType, String, String)> {
    let row = |event: podium_wire::cosi::Event| {
        let metadata = event.resource.clone().unwrap_or_default().metadata.unwrap_or_default();
        (event.event_type(), metadata.id, metadata.version)
    };
    next(stream).await.event.into_iter().map(row).collect()
}

#[tokio::test]
async fn each_method_answers_the_roles_that_the_list_says_and_no_others() {
    let node = Node::serving();
    for role in [None, Some(Role::Reader), Some(Role::Operator), Some(Role::Admin)] {
        let organizations = role.map(Role::organization);
        let organizations = organizations.as_ref().map_or(&["os:nobody"][..], std::slice::from_ref);
        let identity = node.ca.client(organizations);
        let mut channel = Channel::connect(node.address, &node.ca, Some(identity)).await.unwrap();
        for (path, needed, _) in METHODS {
            let answer = channel.call_empty(path, &[]).await;
            let name = path.rsplit('/').next().unwrap();
            if role >= Some(needed) {
                let code = answer.as_ref().err().map(tonic::Status::code);
                let refused =
                    [Code::PermissionDenied, Code::Unimplemented, Code::Unknown, Code::Internal].map(Some);
                assert!(!refused.contains(&code), "{role:?} {path}: {answer:?}");
            } else {
                let status = answer.unwrap_err();
                assert_eq!(status.code(), Code::PermissionDenied, "{role:?} {path}");
                assert!(
                    status.message().contains(name) && status.message().contains(needed.organization()),
                    "{status}"
                );
            }
        }
        for path in UNKNOWN {
            assert_eq!(
                channel.call_empty(path, &[]).await.unwrap_err().code(),
                Code::Unimplemented,
                "{path}"
            );
        }
    }
    // PID 1 was asked by the role of whoever called.
    assert!(node.init.asked("version").iter().any(|(by, _)| by == "reader"));
    assert!(node.init.asked("config apply").iter().all(|(by, _)| by == "admin"));
    assert!(node.init.asked("power off").iter().any(|(by, _)| by == "operator"));
    let audit: Vec<String> = node.said().into_iter().filter(|line| line.starts_with("audit: ")).collect();
    let has = |words: &[&str]| audit.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        has(&["role=os:operator", "name=\"somebody\"", "method=\"Shutdown\"", "result=\"ok\""]),
        "{audit:?}"
    );
    assert!(has(&["role=os:reader", "method=\"Reboot\"", "result=\"PermissionDenied"]), "{audit:?}");
}

#[tokio::test]
async fn nobody_is_let_in_without_a_certificate_of_the_nodes_ca_that_is_valid_now() {
    let node = Node::serving();
    let stranger = Authority::new("stranger");
    let expired = OffsetDateTime::now_utc() - time::Duration::hours(1);
    for (what, identity) in [
        ("none", None),
        ("another CA's", Some(stranger.client(&["os:admin"]))),
        ("expired", Some(node.ca.client_until(&["os:admin"], expired))),
    ] {
        assert!(Channel::connect(node.address, &node.ca, identity).await.is_err(), "{what}");
    }
    let old = client::tls12(&node.ca, node.ca.client(&["os:admin"]));
    assert!(client::stream(node.address, old).await.is_err(), "TLS 1.2");
    // A server that is not the one that the client means is not talked to.
    let admin = node.ca.client(&["os:admin"]);
    assert!(Channel::connect(node.address, &stranger, Some(admin)).await.is_err());
    node.client(Role::Admin).await;
}

#[tokio::test]
async fn what_is_too_large_or_damaged_costs_its_sender_alone() {
    let node = Node::serving();
    let channel = node.client(Role::Admin).await;
    let large = ReadRequest { path: "/x".repeat(100_000) };
    assert_eq!(channel.machine().read(large).await.unwrap_err().code(), Code::ResourceExhausted);
    let large =
        ApplyConfigurationRequest { data: vec![b' '; 5 << 20], ..ApplyConfigurationRequest::default() };
    assert_eq!(
        channel.machine().apply_configuration(large).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    // No HTTP/2, half a preface, and a frame that is longer than it may be.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let long_frame = [&preface[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], &[0; 64]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &preface[..9], &long_frame] {
        let config =
            client::config(Some(&node.ca), Some(node.ca.client(&["os:reader"])), &rustls::version::TLS13);
        let mut stream = client::stream(node.address, config).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // Whatever it says, it ends.
        drop(timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("an end"));
    }
    channel.machine().version(()).await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_keeps_nobody_out() {
    let node = Node::serving();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::TcpStream::connect(node.address).await.unwrap());
    }
    // One address has not taken all places of those who shake hands.
    let identity = node.ca.client(&["os:reader"]);
    let other = "127.0.0.2:0".parse().unwrap();
    let channel = Channel::connect_from(other, node.address, &node.ca, identity).await.unwrap();
    channel.machine().hostname(()).await.unwrap();
    drop(silent);
    let connect = async {
        while Channel::connect(node.address, &node.ca, Some(node.ca.client(&["os:reader"]))).await.is_err() {}
    };
    timeout(LIMIT, connect).await.expect("there is room again");
}

#[tokio::test]
async fn paths_and_links_lead_nowhere_else() {
    let node = Node::serving();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    node.put("var/log/podium/kubelet.log", "said\n");
    node.put("var/log/pods/default_web-node_1/c/0.log", "line\n");
    node.put("etc/file", "content");
    let link = |target: &std::path::Path, name: &str| {
        std::os::unix::fs::symlink(target, node.root().join(name)).unwrap();
    };
    link(&outside.path().join("secret"), "var/log/podium/evil.log");
    link(&outside.path().join("secret"), "var/log/pods/default_web-node_1/c/1.log");
    link(outside.path(), "var/log/pods/default_evil_1");
    link(&outside.path().join("secret"), "etc/link");
    link(std::path::Path::new("/etc/file"), "etc/inside");
    let machine = node.client(Role::Admin).await.machine();
    let logged = |namespace: &'static str, id: &str| {
        let (mut machine, request) = (machine.clone(), logs(namespace, id));
        async move { all(machine.logs(request).await?.into_inner()).await }
    };
    assert_eq!(logged("system", "kubelet").await.unwrap(), "said\n");
    for (namespace, id) in [
        ("system", "evil"),
        ("system", "../../../etc/file"),
        ("system", "none"),
        ("k8s.io", "default/web-node:c"),
        ("k8s.io", "default/evil:c"),
        ("k8s.io", "default/../web:c"),
        ("k8s.io", "../..:c"),
    ] {
        let status = logged(namespace, id).await.unwrap_err();
        let expected = [Code::NotFound, Code::InvalidArgument, Code::PermissionDenied];
        assert!(expected.contains(&status.code()), "{id}: {status:?}");
    }
    std::fs::remove_file(node.root().join("var/log/pods/default_web-node_1/c/1.log")).unwrap();
    assert_eq!(logged("k8s.io", "default/web-node:c").await.unwrap(), "line\n");
    let read = |path: &str| {
        let (mut machine, request) = (machine.clone(), ReadRequest { path: path.to_owned() });
        async move { all(machine.read(request).await?.into_inner()).await }
    };
    for path in ["/etc/file", "/../../etc/file", "/etc/inside", "/etc/../etc/./file"] {
        assert_eq!(read(path).await.unwrap(), "content", "{path}");
    }
    let up = "/..".repeat(20) + &outside.path().join("secret").display().to_string();
    for path in ["/etc/link", "etc/file", "/etc", &up, "", "/\0"] {
        assert!(read(path).await.is_err(), "{path:?}");
    }
    let list = |root: &str| {
        let (mut machine, request) =
            (machine.clone(), ListRequest { root: root.to_owned(), recurse: true, ..ListRequest::default() });
        async move {
            let mut stream = machine.list(request).await?.into_inner();
            let mut names = Vec::new();
            while let Some(file) = stream.message().await? {
                names.push((file.relative_name, file.link, file.is_dir));
            }
            Ok::<_, tonic::Status>(names)
        }
    };
    let names = list("/var/log/../../../../var/log/pods").await.unwrap();
    let is = |name: &str| names.iter().find(|(relative, ..)| relative == name);
    assert!(is("default_web-node_1/c/0.log").is_some() && is(".").is_some(), "{names:?}");
    let (_, target, is_dir) = is("default_evil_1").unwrap();
    assert!(
        *target == outside.path().display().to_string() && !is_dir && is("default_evil_1/secret").is_none()
    );
    assert!(list(&outside.path().display().to_string()).await.is_err() && list("relative").await.is_err());
    let request =
        DiskUsageRequest { paths: vec!["/var/log".into()], all: true, recursion_depth: 9, threshold: 0 };
    let mut stream = machine.clone().disk_usage(request).await.unwrap().into_inner();
    let mut sizes = std::collections::BTreeMap::new();
    while let Some(row) = stream.message().await.unwrap() {
        sizes.insert(row.relative_name, row.size);
    }
    let of = |name: &str| sizes[name];
    assert!(of("pods/default_web-node_1/c/0.log") > 0 && of(".") >= of("pods") + of("podium"), "{sizes:?}");
    assert!(!sizes.contains_key("pods/default_evil_1/secret"), "{sizes:?}");
}

#[tokio::test]
async fn a_log_is_followed_from_its_last_lines_over_files_that_are_put_aside() {
    let node = Node::serving();
    node.put("var/log/podium/kubelet.log", "one\ntwo\nthree\n");
    let mut machine = node.client(Role::Reader).await.machine();
    let request = LogsRequest { follow: true, tail_lines: 2, ..logs("system", "kubelet") };
    let mut stream = machine.logs(request).await.unwrap().into_inner();
    let mut seen = String::new();
    let until = async |stream: &mut Streaming<podium_wire::common::Data>, seen: &mut String, end: &str| {
        while !seen.ends_with(end) {
            seen.push_str(std::str::from_utf8(&next(stream).await.bytes).unwrap());
        }
    };
    until(&mut stream, &mut seen, "three\n").await;
    let log = node.root().join("var/log/podium/kubelet.log");
    std::fs::rename(&log, node.root().join("var/log/podium/kubelet.log.1")).unwrap();
    std::fs::write(&log, "four\n").unwrap();
    until(&mut stream, &mut seen, "four\n").await;
    assert_eq!(seen, "two\nthree\nfour\n");
    let ids = machine.logs_containers(()).await.unwrap().into_inner().messages.remove(0).ids;
    assert_eq!(ids, ["kubelet"]);
}

#[tokio::test]
async fn replacing_the_ca_ends_its_clients_and_two_are_accepted_while_they_change() {
    let node = Node::serving();
    let (old, new) = (&node.ca, Authority::new("two"));
    let channel = node.client(Role::Reader).await;
    let mut stream = channel.machine().events(EventsRequest::default()).await.unwrap().into_inner();
    next(&mut stream).await;
    // Both: the new one signs, the old one is accepted.
    node.machine(&json!({"ca": new.with_key(), "acceptedCAs": [old.accepted()]}));
    let connect = async |server: &Authority, client: &Authority| {
        let joined = async {
            loop {
                let identity = client.client(&["os:reader"]);
                if let Ok(channel) = Channel::connect(node.address, server, Some(identity)).await {
                    return channel;
                }
            }
        };
        timeout(LIMIT, joined).await.expect("the new CA is taken up")
    };
    let of_new = connect(&new, &new).await;
    connect(&new, old).await;
    channel.machine().version(()).await.expect("the old client's connection goes on");
    // The new one alone.
    node.machine(&json!({"ca": new.with_key()}));
    channel.closed().await;
    assert!(timeout(LIMIT, stream.message()).await.expect("an end").is_err());
    assert!(Channel::connect(node.address, &new, Some(old.client(&["os:admin"]))).await.is_err());
    of_new.machine().version(()).await.expect("the new client's connection goes on");
}

#[tokio::test]
async fn a_config_without_a_ca_closes_the_port() {
    let mut node = Node::serving();
    let channel = node.client(Role::Reader).await;
    node.machine(&json!({}));
    channel.closed().await;
    let ended = async {
        while !node.has_ended() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, ended).await.expect("the server ends, and its next life waits without a port");
    assert!(tokio::net::TcpStream::connect(node.address).await.is_err());
}

#[tokio::test]
async fn without_a_config_anybody_sees_the_version_and_gives_one_and_then_nobody_does() {
    let node = Node::without_config();
    let (mut first, second) =
        (Channel::insecure(node.address).await.unwrap(), Channel::insecure(node.address).await.unwrap());
    for (path, _, answered) in METHODS {
        if !answered {
            let status = first.call_empty(path, &[]).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status:?}");
        }
    }
    let version = first.machine().version(()).await.unwrap().into_inner().messages.remove(0).version.unwrap();
    assert_eq!((version.tag.as_str(), version.os.as_str()), ("v0.1.0", "linux"));
    let fingerprints = || {
        let said = node.said().into_iter();
        said.filter(|line| line.contains("--cert-fingerprint ")).collect::<Vec<_>>()
    };
    assert_eq!(fingerprints().len(), 1);
    // Another name is in another certificate, whose key whoever has read the fingerprint knows.
    node.put("run/podium/hostname", "another\n");
    let renewed = async {
        while fingerprints().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, renewed).await.expect("the certificate follows the node's names");
    assert_eq!(fingerprints()[0], fingerprints()[1]);
    let request = |text: &str| ApplyConfigurationRequest {
        data: text.as_bytes().to_vec(),
        mode: Mode::Auto.into(),
        ..ApplyConfigurationRequest::default()
    };
    let refused = second.machine().apply_configuration(request("wrong: 1")).await.unwrap_err();
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("unknown key"),
        "{refused:?}"
    );
    node.init.then(&in_use("STATE", &json!({"ca": node.ca.with_key()})));
    let applied =
        first.machine().apply_configuration(request("version: v1alpha1")).await.unwrap().into_inner();
    assert_eq!(applied.messages[0].warnings, ["machine: warning: doubtful"]);
    // Both are out, and the port is the new CA's.
    first.closed().await;
    second.closed().await;
    let joined = async {
        while Channel::connect(node.address, &node.ca, Some(node.ca.client(&["os:admin"]))).await.is_err() {}
    };
    timeout(LIMIT, joined).await.expect("the config's CA is taken up");
    assert!(Channel::insecure(node.address).await.is_err());
}

#[tokio::test]
async fn a_node_answers_for_itself_alone() {
    let node = Node::serving();
    let mut channel = node.client(Role::Reader).await;
    let path = "/machine.MachineService/Hostname";
    for metadata in [
        &[("nodes", "node-1")][..],
        &[("node", "NODE-1")],
        &[("nodes", "127.0.0.1")],
        &[("nodes", "node-1, 127.0.0.1")],
        &[("node", "[::1]:50000")],
        &[],
    ] {
        channel.call_empty(path, metadata).await.unwrap_or_else(|status| panic!("{metadata:?}: {status:?}"));
    }
    for metadata in
        [&[("nodes", "192.0.2.9")][..], &[("node", "node-2")], &[("nodes", "node-1"), ("nodes", "node-2")]]
    {
        let status = channel.call_empty(path, metadata).await.unwrap_err();
        assert!(status.code() == Code::PermissionDenied && status.message().contains("node-1"), "{status:?}");
    }
}

#[tokio::test]
async fn watchers_are_told_of_each_change() {
    let node = Node::serving();
    let manifest = |image: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": image}]}})
            .to_string()
    };
    let pods = |version: u64| {
        json!({"pods": [{"id": "default-web", "namespace": "default", "name": "web", "uid": "u", "version": version,
            "origin": "config", "file": "podium-default-web.yaml", "digest": "", "valid": true, "problems": []}]})
        .to_string()
    };
    node.put("etc/kubernetes/manifests/podium-default-web.yaml", &manifest("i:1"));
    node.put("run/podium/pods.json", &pods(1));
    let mut state = node.client(Role::Reader).await.state();
    let mut stream = state.watch(watch(STATIC_PODS, "k8s")).await.unwrap().into_inner();
    assert!(next(&mut stream).await.event.is_empty(), "word that it has begun");
    let web = |kind: EventType, version: &str| vec![(kind, "default-web".to_owned(), version.to_owned())];
    let end = (EventType::Bootstrapped, String::new(), String::new());
    assert_eq!(events(&mut stream).await, [web(EventType::Created, "1"), vec![end]].concat());
    node.put("run/podium/pods.json", &pods(2));
    assert_eq!(events(&mut stream).await, web(EventType::Updated, "2"));
    let get = GetRequest {
        r#type: STATIC_PODS.into(),
        namespace: "k8s".into(),
        id: "default-web".into(),
        options: None,
    };
    let yaml = state.get(get).await.unwrap().into_inner().resource.unwrap().spec.unwrap().yaml_spec;
    assert!(yaml.contains("image: i:1"), "{yaml}");
    node.put("run/podium/pods.json", r#"{"pods":[]}"#);
    assert_eq!(events(&mut stream).await, web(EventType::Destroyed, "2"));
    let one = WatchRequest { id: Some("kubelet".into()), ..watch(SERVICES, "runtime") };
    let mut stream = state.watch(one).await.unwrap().into_inner();
    next(&mut stream).await;
    let kubelet = |kind: EventType, version: &str| vec![(kind, "kubelet".to_owned(), version.to_owned())];
    assert_eq!(events(&mut stream).await, kubelet(EventType::Created, "1"));
    node.init.kubelet_is("backoff");
    assert_eq!(events(&mut stream).await, kubelet(EventType::Updated, "2"));
}

#[tokio::test]
async fn only_an_admin_sees_the_config() {
    let node = Node::serving();
    let get = |kind: &str, id: &str| GetRequest {
        r#type: kind.into(),
        id: id.into(),
        namespace: String::new(),
        options: None,
    };
    for (role, sees) in [(Role::Reader, false), (Role::Operator, false), (Role::Admin, true)] {
        let mut state = node.client(role).await.state();
        let answer = state.get(get(MACHINE_CONFIGS, "v1alpha1")).await;
        assert_eq!(answer.is_ok(), sees, "{role:?}: {answer:?}");
        let watched = state.watch(watch(MACHINE_CONFIGS, "config")).await;
        assert_eq!(watched.is_ok(), sees, "{role:?}");
        let id = RESOURCE_DEFINITIONS.to_lowercase();
        let definition =
            state.get(get(RESOURCE_DEFINITIONS, &id)).await.unwrap().into_inner().resource.unwrap();
        let spec: podium_wire::cosi::ResourceDefinitionSpec =
            prost::Message::decode(definition.spec.unwrap().proto_spec.as_slice()).unwrap();
        assert_eq!(spec.resource_type, RESOURCE_DEFINITIONS);
        assert_eq!(state.get(get("Nothing.example", "x")).await.unwrap_err().code(), Code::NotFound);
    }
    assert!(node.init.asked("config get").iter().all(|(by, _)| by == "admin"));
}

#[tokio::test]
async fn an_actor_finds_its_own_events() {
    let node = Node::serving();
    let mut machine = node.client(Role::Operator).await.machine();
    let actor =
        machine.reboot(RebootRequest::default()).await.unwrap().into_inner().messages.remove(0).actor_id;
    let request = EventsRequest { tail_events: -1, with_actor_id: actor.clone(), ..EventsRequest::default() };
    let mut stream = machine.events(request).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await, podium_wire::machine::Event::default(), "hello");
    node.init.happens("service", Some("kubelet"), "stopping");
    node.init.happens("shutdown", None, "reboot, asked by the API");
    let event = next(&mut stream).await;
    assert_eq!(event.actor_id, actor);
    assert_eq!(event.data.unwrap().type_url, "talos/runtime/machine.SequenceEvent");
}

#[tokio::test]
async fn what_pid_1_refuses_is_told_in_its_words_and_what_a_container_cannot_is_not_asked_for() {
    let node = Node::serving();
    let mut machine = node.client(Role::Admin).await.machine();
    let status = machine.service_stop(ServiceStopRequest { id: "x".into() }).await.unwrap_err();
    assert!(status.code() == Code::NotFound && status.message().contains("there is: kubelet"), "{status:?}");
    let dry = ApplyConfigurationRequest {
        data: b"version: v1alpha1".to_vec(),
        dry_run: true,
        mode: Mode::Auto.into(),
        try_mode_timeout: None,
    };
    let details =
        machine.apply_configuration(dry).await.unwrap().into_inner().messages.remove(0).mode_details;
    assert!(details.contains("+ machine.env.A"), "{details}");
    node.put("run/podium/machine.json", r#"{"container":true}"#);
    node.machine(&json!({"ca": node.ca.with_key(), "certSANs": ["x"]}));
    let mode =
        async |machine: &mut podium_wire::machine::machine_service_client::MachineServiceClient<Channel>| {
            machine.version(()).await.unwrap().into_inner().messages.remove(0).platform.unwrap().mode
        };
    let changed = async {
        while mode(&mut machine).await != "container" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, changed).await.expect("the node is known as a container");
    let status = machine.reset(ResetRequest::default()).await.unwrap_err();
    assert_eq!(status.message(), "method is not supported in container mode");
    assert_eq!(machine.reboot(RebootRequest::default()).await.unwrap_err().code(), Code::FailedPrecondition);
    assert!(node.init.asked("reset").is_empty() && node.init.asked("reboot").is_empty());
}

/// Each on a connection of its own, from one address.
#[tokio::test]
async fn two_hundred_watchers_cost_one_subscription_and_little_memory() {
    const WATCHERS: usize = 200;
    let node = Node::serving();
    let mut streams = Vec::new();
    for _ in 0..WATCHERS {
        let channel = node.client(Role::Reader).await;
        let mut stream = channel.state().watch(watch(SERVICES, "runtime")).await.unwrap().into_inner();
        next(&mut stream).await;
        assert_eq!(events(&mut stream).await.len(), 3);
        streams.push((channel, stream));
    }
    let before = node.init.asked("services").len();
    node.init.kubelet_is("backoff");
    for (_, stream) in &mut streams {
        assert_eq!(events(stream).await[0].0, EventType::Updated);
    }
    let asked = node.init.asked("services").len() - before;
    assert!(asked <= 3, "PID 1 was asked {asked} times for {WATCHERS} watchers");
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.api_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    eprintln!("VmHWM with {WATCHERS} watchers: {kib} KiB");
    assert!(kib < 48 << 10, "{kib} KiB of the 64 MiB that it may have");
}
