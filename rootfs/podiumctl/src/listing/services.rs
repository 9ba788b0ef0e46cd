//! Services: all of them as a table, one in detail, and what a node answers to start, stop and restart.

use super::node_name;
use super::pods::each;
use crate::output::Listing;
use crate::table::Table;
use crate::times;
use podium_wire::machine::{ServiceInfo, ServiceList};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// `services`.
pub fn services(replies: &[(String, Vec<ServiceList>)], now: OffsetDateTime) -> Listing {
    let mut listing = Listing::new(&["NODE", "SERVICE", "STATE", "HEALTH", "LAST CHANGE", "LAST EVENT"]);
    for (asked, message) in each(replies) {
        let node = node_name(message.metadata.as_ref(), asked);
        for one in &message.services {
            let last = one.events.as_ref().and_then(|events| events.events.last());
            let change = last.and_then(|event| times::of(event.ts.as_ref()));
            listing.push(
                vec![
                    node.to_owned(),
                    one.id.clone(),
                    one.state.clone(),
                    health_word(one).to_owned(),
                    change.map_or_else(|| "?".to_owned(), |then| format!("{} ago", times::ago(now, then))),
                    last.map_or_else(|| "<none>".to_owned(), |event| event.msg.clone()),
                ],
                value(node, one),
            );
        }
    }
    listing
}

/// `service ID`: the text of one service; `None` when no reply has it.
pub fn service(
    replies: &[(String, Vec<ServiceList>)],
    id: &str,
    now: OffsetDateTime,
) -> Option<(String, Vec<Value>)> {
    let mut text = String::new();
    let mut items = Vec::new();
    for (asked, message) in each(replies) {
        let node = node_name(message.metadata.as_ref(), asked);
        for one in message.services.iter().filter(|one| one.id == id) {
            let mut rows: Vec<Vec<String>> =
                [("NODE", node), ("ID", id), ("STATE", &one.state), ("HEALTH", health_word(one))]
                    .iter()
                    .map(|(name, value)| vec![(*name).to_owned(), (*value).to_owned()])
                    .collect();
            if let Some(said) = one.health.as_ref().map(|health| &health.last_message)
                && !said.is_empty()
            {
                rows.push(vec!["LAST HEALTH MESSAGE".to_owned(), said.clone()]);
            }
            let events = one.events.iter().flat_map(|events| events.events.iter().rev());
            for (index, event) in events.enumerate() {
                let ago =
                    times::of(event.ts.as_ref()).map(|then| format!(" ({} ago)", times::ago(now, then)));
                let line = format!("[{}]: {}{}", event.state, event.msg, ago.unwrap_or_default());
                rows.push(vec![if index == 0 { "EVENTS".to_owned() } else { String::new() }, line]);
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&Table::bare(2).render(&rows));
            items.push(value(node, one));
        }
    }
    (!items.is_empty()).then_some((text, items))
}

/// What nodes answered to an order.
pub fn answers(replies: &[(String, String)]) -> Listing {
    let mut listing = Listing::new(&["NODE", "RESPONSE"]);
    for (node, said) in replies {
        listing.push(vec![node.clone(), said.clone()], json!({"node": node, "response": said}));
    }
    listing
}

/// Whether the service is well; `None` while it is not known.
pub fn is_healthy(service: &ServiceInfo) -> Option<bool> {
    service.health.as_ref().filter(|health| !health.unknown).map(|health| health.healthy)
}

/// `OK`, `Fail`, or `?` while it is not known.
pub fn health_word(service: &ServiceInfo) -> &'static str {
    match is_healthy(service) {
        Some(true) => "OK",
        Some(false) => "Fail",
        None => "?",
    }
}

fn value(node: &str, one: &ServiceInfo) -> Value {
    let stamp = |stamp: Option<&prost_types::Timestamp>| times::of(stamp).map(times::rfc3339);
    let events = one.events.iter().flat_map(|events| &events.events);
    let events: Vec<Value> = events
        .map(|event| json!({"state": event.state, "message": event.msg, "time": stamp(event.ts.as_ref())}))
        .collect();
    let health = one.health.as_ref().map(|health| {
        json!({
            "unknown": health.unknown, "healthy": health.healthy, "lastMessage": health.last_message,
            "lastChange": stamp(health.last_change.as_ref()),
        })
    });
    json!({"node": node, "id": one.id, "state": one.state, "health": health, "events": events})
}
