//! What clients may cost: whoever floods, stalls, or sends what is damaged costs nobody else anything.

use crate::authority::Authority;
use crate::client::{self, Channel, LIMIT};
use crate::node::Node;
use crate::{events, logs, next, watch};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::http::Request;
use podium_wire::cosi::{EventType, GetRequest, ListRequest};
use podium_wire::machine::{
    ApplyConfigurationRequest, ContainersRequest, EventsRequest, LogsRequest, ReadRequest,
};
use podium_wire::resources::{SERVICES, STATIC_PODS};
use podium_wire::roles::Role;
use prost::Message;
use serde_json::json;
use std::os::unix::net::UnixListener;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

/// Of the 64 MiB that the server may have.
const MEMORY_KIB: u64 = 48 << 10;

/// A reader that comes from another address than everybody else.
async fn from_elsewhere(node: &Node) -> Channel {
    let identity = node.ca.client(&["os:reader"]);
    let other = "127.0.0.2:0".parse().unwrap();
    Channel::connect_from(other, node.address, &node.ca, identity).await.unwrap()
}

/// The most memory that the server has had.
fn peak_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.api_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse().unwrap()
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
    from_elsewhere(&node).await.machine().hostname(()).await.unwrap();
    drop(silent);
    let connect = async {
        while Channel::connect(node.address, &node.ca, Some(node.ca.client(&["os:reader"]))).await.is_err() {}
    };
    timeout(LIMIT, connect).await.expect("there is room again");
}

/// What the server says of these bytes as a call of Read.
async fn raw(channel: &Channel, bytes: &[u8]) -> Result<(), Status> {
    let request = Request::post("https://localhost/machine.MachineService/Read")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(Bytes::copy_from_slice(bytes))))
        .unwrap();
    let answer = timeout(LIMIT, channel.clone().call(request)).await.expect("an answer").unwrap();
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

/// No room is made for what a message only says that it has.
#[tokio::test]
async fn a_short_request_that_says_it_is_long_is_refused_for_that() {
    let node = Node::serving();
    let channel = node.client(Role::Admin).await;
    let refused = raw(&channel, b"\0\0\x10\0\0\x0a\x09/etc/file").await.unwrap_err();
    assert!(refused.code() == Code::OutOfRange && refused.message().contains("65536"), "{refused:?}");
}

#[tokio::test]
async fn messages_that_are_none_are_refused_one_by_one() {
    let node = Node::serving();
    let channel = node.client(Role::Admin).await;
    node.put("etc/file", "content");
    raw(&channel, b"\0\0\0\0\x0b\x0a\x09/etc/file").await.expect("so would it be right");
    for (what, bytes) in [
        ("no message", &b""[..]),
        ("half a head", b"\0\0\0"),
        ("half a message", b"\0\0\0\0\x0b\x0a\x09/etc"),
        ("longer than it may be", b"\0\xff\xff\xff\xff\x0a\x09/etc/file"),
        ("packed in a way that nobody has agreed on", b"\x01\0\0\0\x0b\x0a\x09/etc/file"),
        ("a field that is longer than its message", b"\0\0\0\0\x0b\x0a\x7f/etc/file"),
        ("a path that is no text", b"\0\0\0\0\x03\x0a\x01\xff"),
    ] {
        assert!(raw(&channel, bytes).await.is_err(), "{what}");
        channel.machine().version(()).await.unwrap_or_else(|status| panic!("after {what}: {status:?}"));
    }
}

#[tokio::test]
async fn headers_beyond_their_bound_end_no_other_connection() {
    let node = Node::serving();
    let (mut sender, other) = (node.client(Role::Reader).await, node.client(Role::Reader).await);
    let long = "x".repeat(40 << 10);
    let answer = sender.call_empty("/machine.MachineService/Version", &[("nodes", &long)]).await;
    assert!(answer.is_err(), "{answer:?}");
    other.machine().version(()).await.unwrap();
}

#[tokio::test]
async fn calls_beyond_those_of_a_connection_wait_and_keep_no_other_waiting() {
    const STREAMS: usize = 64;
    let node = Node::serving();
    let (channel, other) = (node.client(Role::Reader).await, node.client(Role::Reader).await);
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = channel.machine().events(EventsRequest::default()).await.unwrap().into_inner();
        next(&mut stream).await;
        streams.push(stream);
    }
    let mut machine = channel.machine();
    let one_more = tokio::spawn(async move { machine.hostname(()).await });
    other.machine().hostname(()).await.unwrap();
    assert!(!one_more.is_finished());
    streams.pop();
    timeout(LIMIT, one_more).await.expect("its turn").unwrap().unwrap();
}

#[tokio::test]
async fn one_address_that_follows_all_the_logs_it_can_keeps_calls_and_others_logs_going() {
    let node = Node::serving();
    node.put("var/log/podium/kubelet.log", "said\n");
    let channel = node.client(Role::Reader).await;
    let follow = || LogsRequest { follow: true, ..logs("system", "kubelet") };
    let mut streams = Vec::new();
    let refused = loop {
        match channel.machine().logs(follow()).await {
            Ok(stream) => streams.push(stream.into_inner()),
            Err(status) => break status,
        }
        assert!(streams.len() < 64, "as many as it likes");
    };
    assert!(
        refused.code() == Code::ResourceExhausted && refused.message().contains("end one"),
        "{refused:?}"
    );
    assert!(streams.len() > 8, "people follow some logs at a time: {}", streams.len());
    channel.machine().version(()).await.unwrap();
    channel.machine().logs_containers(()).await.unwrap();
    let elsewhere = from_elsewhere(&node).await;
    let mut stream = elsewhere.machine().logs(follow()).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.bytes, b"said\n"[..]);
    // Who ends one has another.
    streams.pop();
    let again = async { while channel.machine().logs(follow()).await.is_err() {} };
    timeout(LIMIT, again).await.expect("a place that is free again");
}

/// A containerd that takes connections and never says anything, for as long as this is there.
fn silent_containerd(node: &Node) -> UnixListener {
    node.put("run/containerd/own", "");
    UnixListener::bind(node.root().join("run/containerd/containerd.sock")).unwrap()
}

/// Calls that ask it.
fn asks(channel: &Channel, count: usize) -> Vec<JoinHandle<bool>> {
    let ask = |_| {
        let mut machine = channel.machine();
        let pods = ContainersRequest { namespace: "k8s.io".into(), driver: 1 };
        tokio::spawn(async move { machine.containers(pods).await.is_ok() })
    };
    (0..count).map(ask).collect()
}

#[tokio::test]
async fn one_address_that_floods_a_silent_containerd_keeps_no_other_and_no_other_role_waiting() {
    let node = Node::serving();
    let _containerd = silent_containerd(&node);
    let asked = asks(&node.client(Role::Reader).await, 60);
    sleep(Duration::from_millis(500)).await;
    from_elsewhere(&node).await.machine().logs_containers(()).await.unwrap();
    node.client(Role::Operator).await.machine().logs_containers(()).await.unwrap();
    assert!(!asked.iter().any(JoinHandle::is_finished), "they were not waiting");
}

/// The certificate that is made for the one change must wait for the helper, the end of clients for nothing.
#[tokio::test]
async fn a_client_whose_ca_has_gone_is_out_though_a_certificate_is_being_waited_for() {
    let node = Node::serving();
    let _containerd = silent_containerd(&node);
    let mut asked = Vec::new();
    for last in 1..=4 {
        let identity = node.ca.client(&["os:reader"]);
        let from = format!("127.0.0.{last}:0").parse().unwrap();
        asked.extend(asks(&Channel::connect_from(from, node.address, &node.ca, identity).await.unwrap(), 6));
    }
    let revoked = node.client(Role::Admin).await;
    sleep(Duration::from_millis(500)).await;
    node.machine(&json!({"ca": node.ca.with_key(), "certSANs": ["vip.example"]}));
    sleep(Duration::from_millis(500)).await;
    node.machine(&json!({"ca": Authority::new("two").with_key()}));
    timeout(LIMIT, revoked.closed()).await.expect("it is out");
    assert!(!asked.iter().any(|call| call.is_finished()), "the helper had a place for the certificate");
}

#[tokio::test]
async fn readers_that_take_nothing_hold_little_of_the_servers_memory() {
    const READERS: usize = 16;
    let node = Node::serving();
    node.put("var/log/podium/kubelet.log", &"a line of a log of a hundred bytes or so\n".repeat(1 << 20));
    let mut streams = Vec::new();
    for _ in 0..READERS {
        let channel = node.client(Role::Reader).await;
        let stream = channel.machine().logs(logs("system", "kubelet")).await.unwrap().into_inner();
        streams.push((channel, stream));
    }
    // Meanwhile one of them takes all, and the server has had time to give the others what it would.
    let (_, mut stream) = streams.pop().unwrap();
    let mut taken = 0;
    while let Some(data) = timeout(LIMIT, stream.message()).await.expect("a message").unwrap() {
        taken += data.bytes.len();
    }
    assert_eq!(taken, 41 << 20);
    let kib = peak_kib(&node);
    assert!(kib < MEMORY_KIB, "{kib} KiB");
    drop(streams);
}

/// Static pods with large manifests: all of them are some MiB.
fn with_large_pods(node: &Node, count: usize) {
    let filler = "x".repeat(700 << 10);
    let mut pods = Vec::new();
    for number in 0..count {
        let (name, file) = (format!("pod-{number}"), format!("podium-default-pod-{number}.yaml"));
        let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {"filler": filler}},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
        node.put(&format!("etc/kubernetes/manifests/{file}"), &manifest.to_string());
        pods.push(json!({"id": format!("default-{name}"), "namespace": "default", "name": name, "uid": "u", "version": 1,
            "origin": "config", "file": file, "digest": "", "valid": true, "problems": []}));
    }
    node.put("run/podium/pods.json", &json!({"pods": pods}).to_string());
}

#[tokio::test]
async fn lists_of_large_resources_that_nobody_takes_hold_little_of_the_servers_memory() {
    const READERS: usize = 48;
    const PODS: usize = 4;
    let node = Node::serving();
    with_large_pods(&node, PODS);
    let list = || ListRequest { namespace: "k8s".into(), r#type: STATIC_PODS.into(), options: None };
    let mut held = Vec::new();
    for reader in 0..READERS {
        let channel = node.client(Role::Reader).await;
        // They have the head of the answer and take no more.
        let streams = match reader % 2 {
            0 => (Some(channel.state().list(list()).await.unwrap().into_inner()), None),
            _ => (None, Some(channel.state().watch(watch(STATIC_PODS, "k8s")).await.unwrap().into_inner())),
        };
        held.push((channel, streams));
    }
    // Whoever comes from elsewhere has all of it meanwhile.
    let elsewhere = from_elsewhere(&node).await;
    let mut stream = elsewhere.state().list(list()).await.unwrap().into_inner();
    let mut taken = 0;
    while let Some(answer) = timeout(LIMIT, stream.message()).await.expect("a message").unwrap() {
        taken += usize::from(answer.resource.unwrap().spec.unwrap().yaml_spec.len() > 700 << 10);
    }
    assert_eq!(taken, PODS);
    let id = "default-pod-0".into();
    let get = GetRequest { r#type: STATIC_PODS.into(), namespace: "k8s".into(), id, options: None };
    elsewhere.state().get(get).await.unwrap();
    let kib = peak_kib(&node);
    eprintln!("VmHWM with {READERS} readers that take nothing: {kib} KiB");
    assert!(kib < MEMORY_KIB, "{kib} KiB");
    drop(held);
}

/// HTTP/2 lets a client have a window of one byte, by which the server's library takes whatever comes next.
#[tokio::test]
async fn answers_that_have_room_for_one_byte_hold_little_of_the_servers_memory() {
    const CONNECTIONS: usize = 4;
    const CALLS: usize = 40;
    let node = Node::serving();
    with_large_pods(&node, 1);
    let id = "default-pod-0".into();
    let get = GetRequest { r#type: STATIC_PODS.into(), namespace: "k8s".into(), id, options: None };
    let message = get.encode_to_vec();
    let bytes = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let identity = node.ca.client(&["os:reader"]);
        let mut channel = Channel::narrow(node.address, &node.ca, identity, 1).await.unwrap();
        for _ in 0..CALLS {
            let request = Request::post("https://localhost/cosi.resource.State/Get")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Body::new(Full::new(Bytes::from(bytes.clone()))))
                .unwrap();
            // Its answer is the head, of which the body is never read.
            held.push(tokio::spawn(channel.call(request)));
        }
    }
    let has_begun = async {
        while !held.iter().any(|call| call.is_finished()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, has_begun).await.expect("an answer");
    // Time in which the server would have given all of them what it has.
    sleep(Duration::from_secs(2)).await;
    from_elsewhere(&node).await.state().get(get).await.expect("who comes from elsewhere has it");
    let begun = held.iter().filter(|call| call.is_finished()).count();
    assert!(begun <= 3, "{begun} answers of 700 KiB in the 5 MiB of one address");
    let kib = peak_kib(&node);
    eprintln!("VmHWM with {} answers that nobody takes: {kib} KiB", held.len());
    assert!(kib < MEMORY_KIB, "{kib} KiB");
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
    let kib = peak_kib(&node);
    eprintln!("VmHWM with {WATCHERS} watchers: {kib} KiB");
    assert!(kib < MEMORY_KIB, "{kib} KiB");
}
