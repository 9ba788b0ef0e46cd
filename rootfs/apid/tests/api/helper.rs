//! What becomes of the server's clients when the node's helper dies, and what the helper is left with by its own.

use crate::client::LIMIT;
use crate::node::Node;
use crate::{all, logs, next};
use podium_wire::machine::LogsRequest;
use podium_wire::roles::Role;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use tokio::time::timeout;
use tonic::Code;

/// What the helper has of the kernel's watches: descriptors and threads.
fn watches(node: &Node) -> (usize, usize) {
    let folder = std::path::Path::new("/proc").join(node.helper_pid().to_string());
    let all = |name: &str| std::fs::read_dir(folder.join(name)).unwrap().flatten().map(|entry| entry.path());
    // Both come and go while they are looked at.
    let descriptors = all("fd").filter_map(|path| std::fs::read_link(path).ok());
    let threads = all("task").filter_map(|path| std::fs::read_to_string(path.join("comm")).ok());
    (
        descriptors.filter(|target| target.to_string_lossy().contains("inotify")).count(),
        threads.filter(|name| name.trim() == "inotify").count(),
    )
}

#[test]
fn those_who_watch_the_static_pods_and_go_leave_nothing_behind() {
    let node = Node::serving();
    let before = watches(&node);
    assert!(before.0 > 0 && before.1 == before.0, "{before:?}");
    for _ in 0..9 {
        let stream = UnixStream::connect(node.root().join("run/podium/api/node-reader.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        writeln!(&stream, r#"{{"request":"static pods","watch":true}}"#).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        assert!(line.contains(r#""pods":[]"#), "{line}");
    }
    assert_eq!(watches(&node), before);
}

/// A server that somebody has taken over is no admin by a reader's socket.
#[test]
fn files_are_read_by_the_admins_socket_alone() {
    let node = Node::serving();
    node.put("etc/file", "content");
    let ask = |socket: &str| {
        let stream = UnixStream::connect(node.root().join("run/podium/api").join(socket)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        writeln!(&stream, r#"{{"request":"read","path":"/etc/file"}}"#).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        line
    };
    let refused = ask("node-reader.sock");
    assert!(
        refused.contains(r#""ok":false"#) && refused.contains("only an admin may read files"),
        "{refused}"
    );
    let answered = ask("node-admin.sock");
    assert!(answered.contains(r#""ok":true"#), "{answered}");
}

#[tokio::test]
async fn a_stream_that_is_cut_off_is_no_whole_answer() {
    let mut node = Node::serving();
    node.put("var/log/podium/kubelet.log", "said\n");
    let mut machine = node.client(Role::Reader).await.machine();
    let whole = machine.logs(logs("system", "kubelet")).await.unwrap().into_inner();
    assert_eq!(all(whole).await.unwrap(), "said\n");
    let request = LogsRequest { follow: true, ..logs("system", "kubelet") };
    let mut stream = machine.logs(request).await.unwrap().into_inner();
    assert_eq!(next(&mut stream).await.bytes, b"said\n"[..]);
    node.stop_helper();
    let status = timeout(LIMIT, stream.message()).await.expect("an end").unwrap_err();
    assert!(status.code() == Code::Unavailable && status.message().contains("in the middle"), "{status:?}");
}
