//! A node without a config: who may give it the first one, and until when.

use crate::client::{Channel, LIMIT};
use crate::node::{Node, in_use, waiting};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use hyper::http::Request;
use podium_wire::machine::ApplyConfigurationRequest;
use podium_wire::machine::apply_configuration_request::Mode;
use podium_wire::roles::{METHODS, Role};
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

fn request(text: &str, mode: Mode) -> ApplyConfigurationRequest {
    ApplyConfigurationRequest {
        data: text.as_bytes().to_vec(),
        mode: mode.into(),
        ..ApplyConfigurationRequest::default()
    }
}

/// What the console has shown.
fn fingerprints(node: &Node) -> Vec<String> {
    node.said().into_iter().filter(|line| line.contains("--cert-fingerprint ")).collect()
}

/// Returns when the server has ended: its next life waits without a port.
async fn ended(node: &mut Node) {
    let ended = async {
        while !node.has_ended() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, ended).await.expect("the server ends");
    assert!(TcpStream::connect(node.address).await.is_err());
}

#[tokio::test]
async fn a_config_without_a_ca_closes_the_port() {
    let mut node = Node::serving();
    let channel = node.client(Role::Reader).await;
    node.machine(&json!({}));
    channel.closed().await;
    ended(&mut node).await;
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
    let fingerprints = || fingerprints(&node);
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
    let refused = second.machine().apply_configuration(request("wrong: 1", Mode::Auto)).await.unwrap_err();
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("unknown key"),
        "{refused:?}"
    );
    node.init.then(&in_use("STATE", &json!({"ca": node.ca.with_key()})));
    let applied = first
        .machine()
        .apply_configuration(request("version: v1alpha1", Mode::Auto))
        .await
        .unwrap()
        .into_inner();
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
async fn a_config_for_the_next_boot_closes_the_port_as_well_and_its_giver_is_told() {
    for mode in [Mode::Staged, Mode::Reboot] {
        let mut node = Node::without_config();
        let (first, second) =
            (Channel::insecure(node.address).await.unwrap(), Channel::insecure(node.address).await.unwrap());
        node.init.then(&waiting(false));
        let applied = first.machine().apply_configuration(request("version: v1alpha1", mode)).await;
        let applied = applied.unwrap().into_inner().messages.remove(0);
        assert_eq!(applied.mode(), mode);
        first.closed().await;
        second.closed().await;
        ended(&mut node).await;
        // By a socket that takes a first config and can do nothing else, a reboot least of all.
        let asked = node.init.asked("config apply");
        assert!(matches!(asked.as_slice(), [(by, _)] if by == "maintenance"), "{asked:?}");
        assert!(node.init.asked("reboot").is_empty());
    }
}

#[tokio::test]
async fn whoever_gave_the_first_config_is_told_what_became_of_it_however_slow_the_node_is() {
    let node = Node::without_config();
    let (mut first, second) =
        (Channel::insecure(node.address).await.unwrap(), Channel::insecure(node.address).await.unwrap());
    node.init.then(&in_use("STATE", &json!({"ca": node.ca.with_key()})));
    // Longer than a connection that must end is given otherwise.
    node.init.takes(Duration::from_secs(4));
    let mut machine = first.machine();
    let answer =
        tokio::spawn(
            async move { machine.apply_configuration(request("version: v1alpha1", Mode::Auto)).await },
        );
    second.closed().await;
    assert!(first.call_empty("/machine.MachineService/Version", &[]).await.is_err(), "nothing else is taken");
    let applied = timeout(LIMIT, answer).await.expect("an answer").unwrap().unwrap().into_inner();
    assert_eq!(applied.messages[0].mode(), Mode::NoReboot);
    first.closed().await;
}

#[tokio::test]
async fn a_config_whose_end_comes_after_that_of_maintenance_reaches_nobody() {
    let node = Node::without_config();
    let mut channel = Channel::insecure(node.address).await.unwrap();
    let (sender, parts) = mpsc::channel::<Bytes>(1);
    let body = ReceiverStream::new(parts).map(|part| Ok::<_, Status>(Frame::data(part)));
    let call = Request::post("https://localhost/machine.MachineService/ApplyConfiguration")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(body)))
        .unwrap();
    let answer = tokio::spawn(channel.call(call));
    // All but its last byte: mode 1, and two bytes of a config.
    let message = b"\0\0\0\0\x06\x0a\x02{}\x20\x01";
    sender.send(Bytes::copy_from_slice(&message[..message.len() - 1])).await.unwrap();
    node.config(&in_use("STATE", &json!({"ca": node.ca.with_key()})));
    let joined = async {
        while Channel::connect(node.address, &node.ca, Some(node.ca.client(&["os:admin"]))).await.is_err() {}
    };
    timeout(LIMIT, joined).await.expect("the config's CA is taken up");
    // The connection may be gone by now: then nobody takes this.
    drop(sender.send(Bytes::copy_from_slice(&message[message.len() - 1..])).await);
    drop(sender);
    if let Ok(answer) = timeout(LIMIT, answer).await.expect("an answer, or none").unwrap() {
        let status = Status::from_header_map(answer.headers()).expect("a refusal");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
    node.client(Role::Reader).await.machine().version(()).await.unwrap();
    assert!(node.init.asked("config apply").is_empty());
}

#[tokio::test]
async fn without_word_of_the_node_nobody_is_taken_for_the_giver_of_the_first_config() {
    let mut node = Node::without_config();
    let channel = Channel::insecure(node.address).await.unwrap();
    node.stop_helper();
    channel.closed().await;
    assert!(Channel::insecure(node.address).await.is_err());
    let admin = node.ca.client(&["os:admin"]);
    assert!(Channel::connect(node.address, &node.ca, Some(admin)).await.is_err());
    // Not even a word of TLS.
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let mut word = [0; 1];
    let read = timeout(LIMIT, stream.read(&mut word)).await.expect("an end");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    // Whoever has read the fingerprint finds it again.
    node.start_helper();
    let back = async { while Channel::insecure(node.address).await.is_err() {} };
    timeout(LIMIT, back).await.expect("it is open again");
    assert!(!node.has_ended());
    let fingerprints = fingerprints(&node);
    assert!(fingerprints.len() > 1 && fingerprints.iter().all(|one| *one == fingerprints[0]));
    // What the helper says itself still ends it.
    node.config(&waiting(false));
    ended(&mut node).await;
}
