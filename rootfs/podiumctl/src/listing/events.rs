//! Events of a node's life: what a message says in a row. A kind that is not known here is shown by its name.

use super::node_name;
use podium_wire::machine::{
    AddressEvent, ConfigLoadErrorEvent, ConfigValidationErrorEvent, Event, MachineStatusEvent, PhaseEvent,
    RestartEvent, SequenceEvent, ServiceStateEvent, TaskEvent,
};
use prost::Message;
use serde_json::{Value, json};

/// What the type URL of an event begins with.
const TYPES: &str = "talos/runtime/machine.";

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// NODE ID EVENT ACTOR SOURCE MESSAGE.
    pub cells: Vec<String>,
    /// The same as data.
    pub item: Value,
}

/// Reads one event; `None` for the hello, which says nothing.
pub fn event(asked: &str, event: &Event) -> Option<Row> {
    let data = event.data.as_ref().filter(|data| !data.type_url.is_empty())?;
    let node = node_name(event.metadata.as_ref(), asked);
    let kind = data.type_url.strip_prefix(TYPES).unwrap_or(&data.type_url);
    let (source, message) = said(kind, &data.value).unwrap_or_default();
    let item = json!({
        "node": node, "id": event.id, "event": kind, "actor": event.actor_id, "source": source, "message": message,
    });
    let cells = vec![
        node.to_owned(),
        event.id.clone(),
        data.type_url.clone(),
        event.actor_id.clone(),
        source,
        message,
    ];
    Some(Row { cells, item })
}

/// Source and message.
fn said(kind: &str, bytes: &[u8]) -> Option<(String, String)> {
    let started = |start: bool| if start { "START" } else { "STOP" };
    Some(match kind {
        "SequenceEvent" => {
            let one = SequenceEvent::decode(bytes).ok()?;
            let action = one.action().as_str_name().to_owned();
            let message = one.error.map_or(action, |error| format!("error: {}", error.message));
            (one.sequence, message)
        }
        "PhaseEvent" => {
            let one = PhaseEvent::decode(bytes).ok()?;
            (one.phase, started(one.action == 0).to_owned())
        }
        "TaskEvent" => {
            let one = TaskEvent::decode(bytes).ok()?;
            (one.task, started(one.action == 0).to_owned())
        }
        "ServiceStateEvent" => {
            let one = ServiceStateEvent::decode(bytes).ok()?;
            let message = format!("{}: {}", one.action().as_str_name(), one.message);
            (one.service, message)
        }
        "RestartEvent" => (String::new(), format!("restart {}", RestartEvent::decode(bytes).ok()?.cmd)),
        "ConfigLoadErrorEvent" => (String::new(), ConfigLoadErrorEvent::decode(bytes).ok()?.error),
        "ConfigValidationErrorEvent" => {
            (String::new(), ConfigValidationErrorEvent::decode(bytes).ok()?.error)
        }
        "AddressEvent" => {
            let one = AddressEvent::decode(bytes).ok()?;
            (one.hostname, format!("ADDRESSES: {}", one.addresses.join(",")))
        }
        "MachineStatusEvent" => {
            let one = MachineStatusEvent::decode(bytes).ok()?;
            let stage = one.stage().as_str_name().to_owned();
            let status = one.status.unwrap_or_default();
            let unmet = status.unmet_conditions.iter();
            let unmet: Vec<String> = unmet.map(|it| format!("{}: {}", it.name, it.reason)).collect();
            let unmet = if unmet.is_empty() { String::new() } else { format!(", {}", unmet.join(", ")) };
            (stage, format!("ready: {}{unmet}", status.ready))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_wire::machine::machine_status_event::MachineStatus;
    use podium_wire::machine::machine_status_event::machine_status::UnmetCondition;

    fn of(kind: &str, message: &impl Message) -> Event {
        let data = prost_types::Any { type_url: format!("{TYPES}{kind}"), value: message.encode_to_vec() };
        Event { data: Some(data), id: "7".into(), actor_id: "a".into(), ..Event::default() }
    }

    #[test]
    fn each_kind_has_its_source_and_its_message() {
        let task = TaskEvent { task: "stopAllPods".into(), action: 1 };
        let row = event("n", &of("TaskEvent", &task)).unwrap();
        assert_eq!(row.cells, ["n", "7", "talos/runtime/machine.TaskEvent", "a", "stopAllPods", "STOP"]);
        let service =
            ServiceStateEvent { service: "kubelet".into(), action: 3, message: "up".into(), health: None };
        assert_eq!(
            event("n", &of("ServiceStateEvent", &service)).unwrap().cells[4..],
            ["kubelet", "RUNNING: up"]
        );
        assert_eq!(event("n", &of("NewEvent", &task)).unwrap().cells[2], "talos/runtime/machine.NewEvent");
        assert_eq!(event("n", &Event::default()), None);
    }

    #[test]
    fn a_nodes_status_says_what_is_not_met() {
        let said = |stage: i32, ready: bool, unmet: &[(&str, &str)]| {
            let unmet = unmet.iter().map(|(name, reason)| UnmetCondition {
                name: (*name).to_owned(),
                reason: (*reason).to_owned(),
            });
            let status = MachineStatus { ready, unmet_conditions: unmet.collect() };
            let message = MachineStatusEvent { stage, status: Some(status) };
            event("n", &of("MachineStatusEvent", &message)).unwrap().cells[4..].to_vec()
        };
        assert_eq!(said(4, true, &[]), ["RUNNING", "ready: true"]);
        assert_eq!(said(1, false, &[("pods", "1 waits")]), ["BOOTING", "ready: false, pods: 1 waits"]);
    }
}
