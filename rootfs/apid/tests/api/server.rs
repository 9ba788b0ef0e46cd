//! The server as its clients find it: its certificate, and what its process can still do.

use crate::client::{self, Channel, LIMIT};
use crate::node::Node;
use podium_wire::roles::Role;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The addresses and names in its certificate.
async fn names(node: &Node) -> Vec<String> {
    let identity = node.ca.client(&[Role::Reader.organization()]);
    let config = client::config(Some(&node.ca), Some(identity), &rustls::version::TLS13);
    let stream = client::stream(node.address, config).await.unwrap();
    let (_, state) = stream.get_ref();
    let leaf = state.peer_certificates().unwrap()[0].clone();
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map_or_else(|_| format!("{bytes:?}"), |v4| std::net::Ipv4Addr::from(v4).to_string()),
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => panic!("{other:?}"),
    };
    names.value.general_names.iter().map(text).collect()
}

/// Waits until it is in the certificate, or is not.
async fn is_named(node: &Node, name: &str, wanted: bool) {
    let changed = async {
        while names(node).await.iter().any(|known| known == name) != wanted {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, changed).await.unwrap_or_else(|_| panic!("{name}: {wanted}"));
}

/// What a lease of the network gives.
fn lease(address: &str) -> Value {
    json!({"interface": "eth0", "metric": 100, "leases": {"dhcp": {"addresses": [format!("{address}/24")]}}})
}

#[tokio::test]
async fn its_certificate_follows_the_nodes_addresses_and_nobody_is_cut_off_for_it() {
    const LEASES: &str = "run/podium/network/eth0.json";
    let node = Node::serving();
    let (first, second) = ("192.0.2.77", "192.0.2.78");
    let channel = node.client(Role::Reader).await;
    assert!(names(&node).await.contains(&"node-1".to_owned()));
    node.put(LEASES, &lease(first).to_string());
    is_named(&node, first, true).await;
    node.put(LEASES, &lease(second).to_string());
    is_named(&node, second, true).await;
    is_named(&node, first, false).await;
    node.machine(&json!({"ca": node.ca.with_key(), "certSANs": ["vip.example"]}));
    is_named(&node, "vip.example", true).await;
    assert!(!channel.is_closed());
    channel.machine().version(()).await.expect("a connection of before goes on");
}

/// Whoever takes the process over can start no program and open no port: each of its threads is under the filter.
#[tokio::test]
async fn its_process_has_given_up_what_it_does_not_need() {
    let node = Node::serving();
    let threads = format!("/proc/{}/task", node.api_pid());
    let mut count = 0;
    for thread in std::fs::read_dir(threads).unwrap().flatten() {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
        let is = |name: &str, value: &str| status.lines().any(|line| line == format!("{name}:\t{value}"));
        assert!(is("Seccomp", "2") && is("NoNewPrivs", "1"), "{status}");
        count += 1;
    }
    assert!(count > 0);
    let refused = node.said().into_iter().find(|line| line.starts_with("sandbox: seccomp"));
    assert_eq!(refused, None);
    // It still answers all that it is there for, by calls that the filter knows.
    let channel = node.client(Role::Reader).await;
    channel.machine().processes(()).await.unwrap();
    Channel::connect(node.address, &node.ca, Some(node.ca.client(&["os:reader"]))).await.unwrap();
}
