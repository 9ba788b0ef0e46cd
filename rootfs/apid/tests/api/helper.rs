//! What becomes of the server's clients when the node's helper dies, and what the helper is left with by its own.

use crate::client::LIMIT;
use crate::node::Node;
use crate::{all, logs, next};
use podium_wire::machine::LogsRequest;
use podium_wire::roles::Role;
use tokio::time::timeout;
use tonic::Code;

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
