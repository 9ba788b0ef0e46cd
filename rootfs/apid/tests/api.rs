//! The real programs, `apid api` and `apid serve`, driven over real TLS by every kind of client, with a PID 1 that
//! does what a test says.

#[path = "api/authority.rs"]
mod authority;
#[path = "api/bounds.rs"]
mod bounds;
#[path = "api/client.rs"]
mod client;
#[path = "api/conformance.rs"]
mod conformance;
#[path = "api/cri.rs"]
mod cri;
#[path = "api/helper.rs"]
mod helper;
#[path = "api/init.rs"]
mod init;
#[path = "api/maintenance.rs"]
mod maintenance;
#[path = "api/node.rs"]
mod node;
#[path = "api/numbers.rs"]
mod numbers;
#[path = "api/server.rs"]
mod server;
#[path = "api/strangers.rs"]
mod strangers;

use authority::Authority;
use client::{Channel, LIMIT};
use node::Node;
use podium_wire::common::ContainerDriver;
use podium_wire::cosi::{EventType, GetRequest, WatchOptions, WatchRequest, WatchResponse};
use podium_wire::machine::apply_configuration_request::Mode;
use podium_wire::machine::{
    ApplyConfigurationRequest, EventsRequest, LogsRequest, RebootRequest, ResetRequest,
    ServiceRestartRequest, ServiceStopRequest, ShutdownRequest,
};
use podium_wire::resources::{SERVICES, STATIC_PODS};
use podium_wire::roles::Role;
use serde_json::json;
use std::io::Write;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Streaming};

/// What Talos says in the same case, which clients know.
const NOT_IN_A_CONTAINER: &str = "method is not supported in container mode";

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

/// What a followed log says until it ends so.
async fn until(stream: &mut Streaming<podium_wire::common::Data>, seen: &mut String, end: &str) {
    while !seen.ends_with(end) {
        seen.push_str(std::str::from_utf8(&next(stream).await.bytes).unwrap());
    }
}

#[tokio::test]
async fn a_log_is_followed_from_its_last_lines_over_files_that_are_put_aside() {
    let node = Node::serving();
    node.put("var/log/podium/kubelet.log", "one\ntwo\nthree\n");
    let mut machine = node.client(Role::Reader).await.machine();
    let request = LogsRequest { follow: true, tail_lines: 2, ..logs("system", "kubelet") };
    let mut stream = machine.logs(request).await.unwrap().into_inner();
    let mut seen = String::new();
    until(&mut stream, &mut seen, "three\n").await;
    let log = node.root().join("var/log/podium/kubelet.log");
    std::fs::rename(&log, node.root().join("var/log/podium/kubelet.log.1")).unwrap();
    std::fs::write(&log, "four\n").unwrap();
    until(&mut stream, &mut seen, "four\n").await;
    assert_eq!(seen, "two\nthree\nfour\n");
    let ids = machine.logs_containers(()).await.unwrap().into_inner().messages.remove(0).ids;
    assert_eq!(ids, ["kubelet"]);
}

/// As the kubelet does it: a file is put aside under the time, later compressed, and a new life of the container has a
/// file of its own.
#[tokio::test]
async fn a_pods_log_is_followed_over_rotations_and_restarts() {
    let folder = "var/log/pods/default_web-node_1/c";
    let node = Node::serving();
    node.put(&format!("{folder}/0.log"), "one\ntwo\n");
    let path = |name: &str| node.root().join(folder).join(name);
    let aside = |name: &str| std::fs::rename(path("0.log"), path(name)).unwrap();
    let mut machine = node.client(Role::Reader).await.machine();
    let request = LogsRequest { follow: true, tail_lines: 1, ..logs("k8s.io", "default/web-node:c") };
    let mut stream = machine.logs(request).await.unwrap().into_inner();
    let mut seen = String::new();
    until(&mut stream, &mut seen, "two\n").await;

    let mut log = std::fs::File::options().append(true).open(path("0.log")).unwrap();
    log.write_all(b"three\n").unwrap();
    aside("0.log.20260101-000000");
    node.put(&format!("{folder}/0.log"), "four\n");
    until(&mut stream, &mut seen, "four\n").await;
    std::fs::write(path("0.log.20260101-000000.gz"), "not for reading").unwrap();
    std::fs::remove_file(path("0.log.20260101-000000")).unwrap();
    aside("0.log.20260101-000100");
    node.put(&format!("{folder}/0.log"), "five\n");
    until(&mut stream, &mut seen, "five\n").await;
    node.put(&format!("{folder}/1.log"), "six\n");
    until(&mut stream, &mut seen, "six\n").await;
    assert_eq!(seen, "two\nthree\nfour\nfive\nsix\n");
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
async fn nobody_stops_over_the_network_what_the_node_is_reached_by() {
    let node = Node::serving();
    let mut machine = node.client(Role::Admin).await.machine();
    for id in ["api", "apid", "dhcpcd"] {
        let status = machine.service_stop(ServiceStopRequest { id: id.into() }).await.unwrap_err();
        let remedy = format!("init ctl service stop {id}");
        assert!(
            status.code() == Code::FailedPrecondition && status.message().contains(&remedy),
            "{status:?}"
        );
        assert!(node.init.asked("service").is_empty(), "{id}");
    }
    for id in ["api", "apid", "dhcpcd"] {
        // That this PID 1 does not know it is its own word.
        machine.service_restart(ServiceRestartRequest { id: id.into() }).await.unwrap_err();
        let (_, asked) = node.init.asked("service").pop().unwrap();
        assert_eq!((&asked["name"], &asked["action"]), (&json!(id), &json!("restart")));
    }
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
    assert_eq!(status.message(), NOT_IN_A_CONTAINER);
    assert_eq!(machine.reboot(RebootRequest::default()).await.unwrap_err().code(), Code::FailedPrecondition);
    let status = machine.shutdown(ShutdownRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, NOT_IN_A_CONTAINER));
    for request in ["reset", "reboot", "power off"] {
        assert!(node.init.asked(request).is_empty(), "{request}");
    }
}
