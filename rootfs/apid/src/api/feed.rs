//! What can be watched: services, static pods, their states, the config, the node, what happens. One hub each.

use super::events::{self, Log};
use super::hub::{Hub, Publisher, State};
use super::resources::{Draft, Ledger, Table};
use super::services::Services;
use super::upstream::{ANSWER_LIMIT, Lines, Purpose, Refused, Target, Upstream};
use crate::node::{Mode, Setup};
use podium_wire::resources::{
    DEFINITIONS, Definition, MACHINE_CONFIGS, NODE_STATUSES, RESOURCE_DEFINITIONS, SERVICES,
    STATIC_POD_STATUSES, STATIC_PODS,
};
use prost::Message;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Events come in bursts; one look tells of all of them.
const SETTLE: Duration = Duration::from_millis(30);
/// Where a resource tells what is wrong with it.
const PROBLEMS: &str = "podium.dev/problems";
/// And where it comes from.
const ORIGIN: &str = "podium.dev/origin";

/// How the node is as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeStatus {
    /// In Talos's words: `booting`, `running`, `maintenance`.
    pub(super) stage: &'static str,
    pub(super) ready: bool,
    /// What keeps it from being ready: a name and a reason each.
    pub(super) unmet: Vec<(String, String)>,
}

/// All hubs.
#[derive(Debug)]
pub(super) struct Feeds {
    pub(super) events: Hub<Arc<Log>>,
    pub(super) status: Hub<Arc<NodeStatus>>,
    tables: HashMap<&'static str, Hub<Table>>,
}

/// What a source of tables remembers between its lives.
type Memory = Arc<Mutex<Ledger>>;

impl Feeds {
    /// None of them asks before somebody watches.
    pub(super) fn new(upstream: &Upstream, setup: &watch::Receiver<Arc<Setup>>) -> Self {
        let up = upstream.clone();
        let events = Hub::start(move |publisher| events::follow(up.clone(), publisher));
        let mut tables = HashMap::new();
        for definition in &DEFINITIONS {
            let memory: Memory = Arc::new(Mutex::new(Ledger::new(definition)));
            let (up, setup) = (upstream.clone(), setup.clone());
            let hub = match definition.kind {
                SERVICES => Hub::start(move |publisher| services(up.clone(), publisher, memory.clone())),
                STATIC_PODS => {
                    Hub::start(move |publisher| static_pods(up.clone(), publisher, memory.clone()))
                }
                STATIC_POD_STATUSES => Hub::start(move |publisher| {
                    statuses(up.clone(), setup.clone(), publisher, memory.clone())
                }),
                MACHINE_CONFIGS => {
                    Hub::start(move |publisher| configs(up.clone(), publisher, memory.clone()))
                }
                RESOURCE_DEFINITIONS => Hub::start(move |publisher| definitions(publisher, memory.clone())),
                // The node's own needs the hub below.
                _ => continue,
            };
            tables.insert(definition.kind, hub);
        }
        let (up, seen) = (upstream.clone(), setup.clone());
        let status = Hub::start(move |publisher| status(up.clone(), seen.clone(), publisher));
        let (node, seen) = (status.clone(), setup.clone());
        if let Some(definition) = Definition::find(NODE_STATUSES) {
            let memory: Memory = Arc::new(Mutex::new(Ledger::new(definition)));
            let hub = Hub::start(move |publisher| {
                node_status(node.clone(), seen.clone(), publisher, memory.clone())
            });
            tables.insert(NODE_STATUSES, hub);
        }
        Self { events, status, tables }
    }

    /// The table of a type.
    pub(super) fn table(&self, definition: &Definition) -> Option<&Hub<Table>> {
        self.tables.get(definition.kind)
    }
}

fn take(memory: &Memory, drafts: Vec<Draft>) -> Table {
    memory.lock().unwrap_or_else(PoisonError::into_inner).take(drafts)
}

/// Of what PID 1 or the helper says JSON has all, and YAML is what people read.
pub(super) fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

/// Follows PID 1's events from now on; each one that is of this kind is a reason to look again.
async fn followed(upstream: &Upstream, target: Target) -> Result<Lines, Refused> {
    let request = json!({"request": "events", "since": 0, "follow": true});
    let mut lines = upstream.open(target, Purpose::Feed, &request).await?;
    let number = |line: &Value, key: &str| line.get(key).and_then(Value::as_u64).unwrap_or(0);
    let first = lines.next(Some(ANSWER_LIMIT)).await?.unwrap_or_default();
    let (last, mut seq) = (number(&first, "last"), 0);
    while seq < last {
        let line = lines.next(Some(ANSWER_LIMIT)).await?.ok_or_else(|| Refused::garbled("it has ended"))?;
        seq = number(&line, "seq").max(seq);
    }
    Ok(lines)
}

async fn next_of(lines: &mut Lines, kinds: &[&str]) -> Result<(), Refused> {
    loop {
        let line = lines.next(None).await?.ok_or_else(|| Refused::garbled("it has ended"))?;
        let kind = line.get("kind").and_then(Value::as_str).unwrap_or_default();
        if kinds.contains(&kind) {
            sleep(SETTLE).await;
            return Ok(());
        }
    }
}

/// Runs a source whose errors end it.
async fn ends(work: impl Future<Output = Result<(), Refused>>) -> Refused {
    work.await.err().unwrap_or_else(|| Refused::garbled("it has ended"))
}

async fn services(upstream: Upstream, publisher: Publisher<Table>, memory: Memory) -> Refused {
    ends(async {
        let mut lines = followed(&upstream, Target::InitReader).await?;
        loop {
            let answer = upstream.ask(Target::InitReader, &json!({"request": "services"})).await?;
            let drafts = Services::of(&answer)?.services.into_iter().map(|service| {
                let spec = json!({
                    "running": service.is_up(), "healthy": service.is_healthy(),
                    "unknown": !service.is_up() && !service.is_broken(), "state": service.talos_state(),
                    "message": service.message(),
                });
                Draft { yaml: yaml(&spec), id: service.id, ..Draft::default() }
            });
            publisher.publish(take(&memory, drafts.collect()));
            next_of(&mut lines, &["service"]).await?;
        }
    })
    .await
}

async fn static_pods(upstream: Upstream, publisher: Publisher<Table>, memory: Memory) -> Refused {
    ends(async {
        let request = json!({"request": "static pods", "watch": true});
        let mut lines = upstream.open(Target::NodeReader, Purpose::Feed, &request).await?;
        while let Some(line) = lines.next(None).await? {
            publisher.publish(take(&memory, pods(&line)?.iter().filter_map(static_pod).collect()));
        }
        Ok(())
    })
    .await
}

fn pods(line: &Value) -> Result<&Vec<Value>, Refused> {
    line.get("pods").and_then(Value::as_array).ok_or_else(|| Refused::garbled("it has no pods"))
}

fn static_pod(pod: &Value) -> Option<Draft> {
    let text = |name: &str| pod.get(name).and_then(Value::as_str).unwrap_or_default();
    let id = text("id");
    let manifest = text("manifest");
    // Podium's own are JSON; those of others are told as they are.
    let spec =
        serde_json::from_str::<Value>(manifest).map_or_else(|_| manifest.to_owned(), |value| yaml(&value));
    let problems = pod.get("problems").and_then(Value::as_array).into_iter().flatten();
    let problems: Vec<&str> = problems.filter_map(Value::as_str).collect();
    let mut annotations = HashMap::from([(ORIGIN.to_owned(), text("origin").to_owned())]);
    if !problems.is_empty() {
        annotations.insert(PROBLEMS.to_owned(), problems.join("\n"));
    }
    let version = pod.get("version").and_then(Value::as_u64);
    (!id.is_empty()).then(|| Draft {
        id: id.to_owned(),
        yaml: spec,
        proto: Vec::new(),
        // A pod that never had a manifest has version 0, which clients read as none.
        version: version.filter(|_| text("origin") != "file").map(|version| version.max(1)),
        annotations,
    })
}

async fn statuses(
    upstream: Upstream,
    setup: watch::Receiver<Arc<Setup>>,
    publisher: Publisher<Table>,
    memory: Memory,
) -> Refused {
    ends(async {
        let request = json!({"request": "pod status", "watch": true, "refresh": true});
        let mut lines = upstream.open(Target::NodeReader, Purpose::Feed, &request).await?;
        while let Some(line) = lines.next(None).await? {
            let node = setup.borrow().hostname.to_lowercase();
            let kubelet = line.get("kubelet").and_then(Value::as_str).unwrap_or_default().to_owned();
            let drafts = pods(&line)?.iter().map(|pod| pod_status(pod, &node, &kubelet));
            publisher.publish(take(&memory, drafts.collect()));
        }
        Ok(())
    })
    .await
}

/// A PodStatus of Kubernetes, as far as it is known.
fn pod_status(pod: &Value, node: &str, kubelet: &str) -> Draft {
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is = |of: &Value, name: &str| of.get(name).and_then(Value::as_bool).unwrap_or_default();
    let mut ready = json!({"type": "Ready", "status": if is(pod, "ready") { "True" } else { "False" }});
    let (reason, message) = (text(pod, "reason"), text(pod, "message"));
    for (key, value) in [("reason", &reason), ("message", &message)] {
        if !value.is_empty() {
            ready[key] = json!(value);
        }
    }
    let containers = pod.get("containers").and_then(Value::as_array).into_iter().flatten().map(|container| {
        let mut state = json!({});
        for key in ["reason", "message"] {
            if !text(container, key).is_empty() {
                state[key] = json!(text(container, key));
            }
        }
        json!({
            "name": text(container, "name"), "image": text(container, "image"), "ready": is(container, "ready"),
            "restartCount": container.get("restarts"), "state": {text(container, "state"): state},
        })
    });
    let mut spec = json!({
        "phase": text(pod, "phase"), "conditions": [ready], "containerStatuses": containers.collect::<Vec<_>>(),
    });
    for (key, value) in [("podIP", text(pod, "pod_ip")), ("startTime", text(pod, "started_at"))] {
        if !value.is_empty() {
            spec[key] = json!(value);
        }
    }
    let (namespace, name) = (text(pod, "namespace"), text(pod, "name"));
    let id = if name.is_empty() { text(pod, "id") } else { format!("{namespace}/{name}-{node}") };
    let annotations = match kubelet {
        "ok" => HashMap::new(),
        why => HashMap::from([(PROBLEMS.to_owned(), format!("kubelet: {why}"))]),
    };
    Draft { id, yaml: yaml(&spec), annotations, ..Draft::default() }
}

async fn configs(upstream: Upstream, publisher: Publisher<Table>, memory: Memory) -> Refused {
    ends(async {
        let mut lines = followed(&upstream, Target::InitReader).await?;
        loop {
            let answer = upstream.ask(Target::InitAdmin, &json!({"request": "config get"})).await?;
            let text = answer.get("config").and_then(Value::as_str).unwrap_or_default();
            let source = answer.get("source").and_then(Value::as_str).unwrap_or_default();
            let draft = Draft {
                id: "v1alpha1".to_owned(),
                yaml: text.to_owned(),
                proto: MachineConfigSpec { yaml_marshalled: text.as_bytes().to_vec() }.encode_to_vec(),
                version: None,
                annotations: HashMap::from([(ORIGIN.to_owned(), source.to_owned())]),
            };
            publisher.publish(take(&memory, if text.is_empty() { Vec::new() } else { vec![draft] }));
            next_of(&mut lines, &["config"]).await?;
        }
    })
    .await
}

/// How a client that knows the type decodes a machine config.
#[derive(Clone, PartialEq, Message)]
struct MachineConfigSpec {
    #[prost(bytes = "vec", tag = "1")]
    yaml_marshalled: Vec<u8>,
}

async fn definitions(publisher: Publisher<Table>, memory: Memory) -> Refused {
    let drafts = DEFINITIONS.iter().map(|definition| {
        let spec = definition.to_spec();
        let columns = spec
            .print_columns
            .iter()
            .map(|column| json!({"name": column.name, "jsonPath": column.json_path}));
        let shown = json!({
            "type": spec.resource_type, "displayType": spec.display_type, "aliases": spec.aliases,
            "allAliases": spec.all_aliases, "defaultNamespace": spec.default_namespace,
            "printColumns": columns.collect::<Vec<_>>(),
            "sensitivity": if definition.sensitive { "sensitive" } else { "" },
        });
        Draft { id: definition.id(), yaml: yaml(&shown), proto: spec.encode_to_vec(), ..Draft::default() }
    });
    publisher.publish(take(&memory, drafts.collect()));
    std::future::pending().await
}

async fn status(
    upstream: Upstream,
    mut setup: watch::Receiver<Arc<Setup>>,
    publisher: Publisher<Arc<NodeStatus>>,
) -> Refused {
    ends(async {
        let mut lines = followed(&upstream, Target::InitReader).await?;
        loop {
            let answer = upstream.ask(Target::InitReader, &json!({"request": "services"})).await?;
            let mode = setup.borrow_and_update().mode;
            publisher.publish(Arc::new(node(&Services::of(&answer)?, mode)));
            // Whichever comes first; a line that is half read is lost with the connection, which is made anew.
            tokio::select! {
                next = next_of(&mut lines, &["service"]) => next?,
                _ = setup.changed() => lines = followed(&upstream, Target::InitReader).await?,
            }
        }
    })
    .await
}

fn node(services: &Services, mode: Mode) -> NodeStatus {
    let late = services.services.iter().filter(|service| service.is_wanted() && !service.is_up());
    let unmet: Vec<_> = late.map(|service| (service.id.clone(), service.message())).collect();
    let is_broken = services.services.iter().any(|service| service.is_wanted() && service.is_broken());
    let stage = match (mode, unmet.is_empty() || is_broken) {
        (Mode::Maintenance, _) => "maintenance",
        (_, true) => "running",
        (_, false) => "booting",
    };
    NodeStatus { stage, ready: unmet.is_empty() && mode != Mode::Maintenance, unmet }
}

async fn node_status(
    status: Hub<Arc<NodeStatus>>,
    setup: watch::Receiver<Arc<Setup>>,
    publisher: Publisher<Table>,
    memory: Memory,
) -> Refused {
    let mut watcher = status.watch();
    loop {
        let state = watcher.borrow_and_update().clone();
        match state {
            State::Waiting => {}
            State::Failed(refused) => return refused,
            State::Now(status) => {
                let unmet = status.unmet.iter().map(|(name, reason)| json!({"name": name, "reason": reason}));
                let hostname = setup.borrow().hostname.clone();
                let spec = json!({
                    "stage": status.stage, "ready": status.ready, "unmetConditions": unmet.collect::<Vec<_>>(),
                    "hostname": hostname,
                });
                let draft = Draft { id: "node".to_owned(), yaml: yaml(&spec), ..Draft::default() };
                publisher.publish(take(&memory, vec![draft]));
            }
        }
        if watcher.changed().await.is_err() {
            return Refused::garbled("it has ended");
        }
    }
}
