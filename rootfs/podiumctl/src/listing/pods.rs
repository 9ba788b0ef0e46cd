//! Containers and what they use. A container stands below its pod's sandbox, marked by `└─ `.

use super::node_name;
use crate::output::Listing;
use podium_wire::machine::{Container, Stats};
use serde_json::json;

/// `containers`.
pub fn containers(replies: &[(String, Vec<Container>)]) -> Listing {
    let mut listing = Listing::new(&["NODE", "NAMESPACE", "ID", "IMAGE", "PID", "STATUS"]);
    for (asked, message) in each(replies) {
        let node = node_name(message.metadata.as_ref(), asked);
        let mut containers: Vec<_> = message.containers.iter().collect();
        containers.sort_by(|left, right| left.id.cmp(&right.id));
        for one in containers {
            listing.push(
                vec![
                    node.to_owned(),
                    one.namespace.clone(),
                    nested(&one.id, &one.pod_id),
                    one.image.clone(),
                    one.pid.to_string(),
                    one.status.clone(),
                ],
                json!({
                    "node": node, "namespace": one.namespace, "id": one.id, "podId": one.pod_id,
                    "name": one.name, "uid": one.uid, "image": one.image, "pid": one.pid, "status": one.status,
                }),
            );
        }
    }
    listing
}

/// `stats`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn stats(replies: &[(String, Vec<Stats>)]) -> Listing {
    let mut listing = Listing::new(&["NODE", "NAMESPACE", "ID", "MEMORY(MB)", "CPU"]);
    for (asked, message) in each(replies) {
        let node = node_name(message.metadata.as_ref(), asked);
        let mut stats: Vec<_> = message.stats.iter().collect();
        stats.sort_by(|left, right| left.id.cmp(&right.id));
        for one in stats {
            listing.push(
                vec![
                    node.to_owned(),
                    one.namespace.clone(),
                    nested(&one.id, &one.pod_id),
                    format!("{:.2}", one.memory_usage as f64 * 1e-6),
                    one.cpu_usage.to_string(),
                ],
                json!({
                    "node": node, "namespace": one.namespace, "id": one.id, "podId": one.pod_id, "name": one.name,
                    "memoryUsage": one.memory_usage, "cpuUsage": one.cpu_usage,
                }),
            );
        }
    }
    listing
}

fn nested(id: &str, pod: &str) -> String {
    if pod.is_empty() || id == pod { id.to_owned() } else { format!("└─ {id}") }
}

/// Every message with the node that sent it.
pub(super) fn each<T>(replies: &[(String, Vec<T>)]) -> impl Iterator<Item = (&str, &T)> {
    replies.iter().flat_map(|(node, messages)| messages.iter().map(move |message| (node.as_str(), message)))
}
