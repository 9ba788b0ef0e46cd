//! The real program, with a kubelet that does what a test says: its certificates, its answers over the socket, its
//! list of pods over http.

#[path = "process/kubelet.rs"]
mod kubelet;
#[path = "process/node.rs"]
mod node;
#[path = "process/prober.rs"]
mod prober;

use kubelet::{Answer, Kubelet};
use node::{Client, Node, refused};
use prober::World;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

const FILE: &str = "podium-default-web.yaml";

fn manifest(uid: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": uid},
        "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// The kubelet's list with that pod in it, running or waiting.
fn list(uid: &str, image: &str, waits_for: Option<&str>) -> Answer {
    let (yes, state) = match waits_for {
        None => ("True", json!({"running": {"startedAt": "2026-11-24T03:29:21Z"}})),
        Some(reason) => ("False", json!({"waiting": {"reason": reason}})),
    };
    Answer::Body(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [{
        "metadata": {"name": "web-node", "namespace": "default", "uid": uid},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": image}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": yes}],
            "containerStatuses": [{"name": "c", "ready": waits_for.is_none(), "restartCount": 0, "state": state}]},
    }]}).to_string())
}

fn reason(line: &Value) -> &str {
    line["pods"][0]["reason"].as_str().unwrap_or_default()
}

#[test]
fn a_watcher_is_told_of_each_change_and_of_a_kubelet_that_dies_and_returns() {
    let node = Node::new();
    node.put(FILE, &manifest("u-1", "i:1"));
    let kubelet = Kubelet::start(node.root(), list("u-1", "i:1", Some("ErrImagePull")));
    let _apid = node.serve(kubelet.address());
    let mut watcher = Client::connect(&node);
    watcher.ask(&json!({"request": "pod status", "watch": true}));
    watcher.until("the reason", |line| reason(line) == "ErrImagePull" && line["kubelet"] == "ok");
    kubelet.answer(list("u-1", "i:1", None));
    watcher.until("ready", |line| line["pods"][0]["ready"] == true);
    // The manifest directory wakes it: the kubelet has not followed yet.
    node.put(FILE, &manifest("u-1", "i:2"));
    watcher.until("an update", |line| reason(line) == "Updating");
    kubelet.answer(list("u-1", "i:2", None));
    watcher.until("updated", |line| line["pods"][0]["ready"] == true);
    let address = kubelet.address();
    drop(kubelet);
    let line = watcher.until("no kubelet", |line| line["kubelet"] != "ok");
    assert_eq!(reason(&line), "KubeletUnreachable");
    assert!(line["kubelet"].as_str().unwrap().contains("connect"), "{line}");
    let _kubelet = Kubelet::start_at(node.root(), address, list("u-1", "i:2", None));
    watcher.until("the kubelet is back", |line| line["kubelet"] == "ok" && line["pods"][0]["ready"] == true);
}

#[test]
fn a_refresh_shows_what_is_now() {
    let node = Node::new();
    node.put(FILE, &manifest("u-1", "i:1"));
    let kubelet = Kubelet::start(node.root(), list("u-1", "i:1", Some("ContainerCreating")));
    let _apid = node.serve(kubelet.address());
    let mut client = Client::connect(&node);
    for wait in [Some("ContainerCreating"), None, Some("CrashLoopBackOff"), None] {
        kubelet.answer(list("u-1", "i:1", wait));
        client.ask(&json!({"version": 1, "request": "pod status", "refresh": true}));
        assert_eq!(reason(&client.line()), wait.unwrap_or_default());
    }
    client.ask(&json!({"request": "pod status"}));
    assert_eq!(client.line()["pods"][0]["id"], "default-web");
}

#[test]
fn what_the_kubelet_refused_to_read_is_told_from_its_log() {
    let node = Node::new();
    let kubelet = Kubelet::start(node.root(), Answer::Body(r#"{"items":[]}"#.to_owned()));
    node.put(FILE, &manifest("u-1", "i:1"));
    node.log("E1 1:1 1 file.go:187] Can't process manifest file \"/m/podium-default-web.yaml\": of an earlier boot\n-- podium: boot 2 at x\n");
    let _apid = node.serve(kubelet.address());
    let mut client = Client::connect(&node);
    client.ask(&json!({"request": "pod status", "refresh": true}));
    assert_eq!(reason(&client.line()), "NotSeen");
    node.log("E1 1:1 1 file.go:187] Can't process manifest file \"/m/podium-default-web.yaml\": invalid pod: [x]\n");
    client.ask(&json!({"request": "pod status", "refresh": true}));
    let line = client.line();
    assert_eq!(
        (reason(&line), line["pods"][0]["message"].as_str().unwrap()),
        ("Rejected", "invalid pod: [x]")
    );
}

#[test]
fn a_kubelet_that_cannot_be_used_is_told_and_costs_no_answer() {
    let (node, stranger) = (Node::new(), Node::new());
    node.put(FILE, &manifest("u-1", "i:1"));
    let kubelet = Kubelet::start(node.root(), Answer::Body("[".to_owned()));
    let _apid = node.serve(kubelet.address());
    let mut client = Client::connect(&node);
    let mut told = |answer: Answer| {
        kubelet.answer(answer);
        client.ask(&json!({"request": "pod status", "refresh": true}));
        let line = client.line();
        assert_eq!(reason(&line), "KubeletUnreachable");
        line["kubelet"].as_str().unwrap().to_owned()
    };
    for (answer, words) in [
        (Answer::Body("[".to_owned()), "decode"),
        (Answer::Close, "ask"),
        (Answer::Flood, "length limit"),
        (Answer::Silence, "no answer within 5 s"),
    ] {
        let why = told(answer);
        assert!(why.contains(words), "{words}: {why}");
    }
    // Another CA's kubelet at the same place.
    let address = kubelet.address();
    drop(kubelet);
    let _other = Kubelet::start_at(stranger.root(), address, Answer::Body("{}".to_owned()));
    client.ask(&json!({"request": "pod status", "refresh": true}));
    let line = client.line();
    assert!(line["kubelet"].as_str().unwrap().starts_with("TLS: invalid peer certificate"), "{line}");
}

#[test]
fn who_asks_wrongly_is_told_what_to_write_and_who_floods_is_left() {
    let node = Node::new();
    let _apid = node.serve("127.0.0.1:9".parse().unwrap());
    let mut client = Client::connect(&node);
    for wrong in ["{}", "hello", r#"{"request":"pods"}"#, r#"{"request":"pod status","more":1}"#] {
        client.write(wrong);
        let line = client.line();
        assert_eq!(line["ok"], false, "{wrong}");
        assert!(line["remedy"].as_str().unwrap().contains("pod status"));
    }
    let mut flooder = Client::connect(&node);
    flooder.write(&"x".repeat(100_000));
    assert!(flooder.closed());
    // Others are served meanwhile, and more of them than there are places come to their turn.
    for _ in 0..100 {
        let mut one = Client::connect(&node);
        one.ask(&json!({"request": "pod status"}));
        assert_eq!(one.line()["pods"], json!([]));
    }
}

#[test]
fn an_unknown_verb_or_option_is_refused() {
    assert!(refused(&["serv"]).contains("unknown verb"));
    assert!(refused(&["serve", "--kubelet=there"]).contains("--kubelet=there"));
    assert!(refused(&["pki", "--other=1"]).contains("unknown option"));
    assert!(refused(&["podlist", "--root=/no/such/root"]).contains("podlist.token"));
}

/// Status line with headers, and body.
fn http(port: u16, head: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(node::LIMIT)).unwrap();
    write!(stream, "{head}Host: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn the_pod_list_is_for_who_has_the_token_and_follows_the_manifests() {
    let node = Node::new();
    node.put(FILE, &manifest("u-1", "i:1"));
    let (_apid, port) = node.podlist("5ec1e7");
    let key = "Authorization: Bearer 5ec1e7\r\n";
    for head in [
        "GET /pods HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\n",
        "POST /pods HTTP/1.1\r\nAuthorization: Bearer no\r\n",
    ] {
        assert!(http(port, head).0.starts_with("HTTP/1.1 401 "), "{head}");
    }
    assert!(http(port, &format!("POST /pods HTTP/1.1\r\n{key}")).0.starts_with("HTTP/1.1 405 "));
    assert!(http(port, &format!("GET /other HTTP/1.1\r\n{key}")).0.starts_with("HTTP/1.1 404 "));
    let get = format!("GET /pods HTTP/1.1\r\n{key}");
    let (head, body) = http(port, &get);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/json"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["items"], json!([manifest("u-1", "i:1")]));
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let (head, body) = http(port, &format!("{get}If-None-Match: \"x\", {tag}\r\n"));
    assert!(head.starts_with("HTTP/1.1 304 ") && body.is_empty(), "{head}");
    node.put(FILE, &manifest("u-1", "i:2"));
    assert!(http(port, &format!("{get}If-None-Match: {tag}\r\n")).1.contains("i:2"));
    node.remove(FILE);
    assert!(http(port, &get).1.contains(r#""items":[]"#), "at a shutdown");
    node.remove_directory();
    assert!(http(port, &get).0.starts_with("HTTP/1.1 503 "));
}

#[test]
fn a_prober_tells_changes_alone_and_begins_anew_with_each_life() {
    let node = Node::new();
    let mut world = World::new(&node);
    // It may have been asked before the events were there, which is then told anew.
    assert_eq!(world.next().1, None);
    world.is_well(false);
    let mut last = std::time::Duration::ZERO;
    let failed = std::iter::repeat_with(|| world.next()).skip_while(|(_, failure)| failure.is_none());
    for (asked, failure) in failed.take(4) {
        assert_eq!(failure.as_deref(), Some("answers 500 Internal Server Error"));
        assert!(asked > last, "each failure is told");
        last = asked;
    }
    world.is_well(true);
    let (well, _) = std::iter::repeat_with(|| world.next()).find(|(_, failure)| failure.is_none()).unwrap();
    // The next word comes of a new life alone, and of a question after it.
    let told = prober::since_boot();
    world.tell(r#"{"seq":1,"service":"kubelet","state":"up","text":"healthy again"}"#);
    world.tell(r#"{"seq":2,"service":"kubelet","state":"starting","text":"starting, pid 7"}"#);
    world.tell(r#"{"seq":3,"service":"kubelet","state":"up","text":"up"}"#);
    let (again, failure) = world.next();
    assert!(told > well && again >= told && failure.is_none(), "{failure:?}");
}
