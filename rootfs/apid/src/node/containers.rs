//! `containers` and `stats`: pods and their containers as containerd has them, asked over the CRI.
//!
//! Ids are those of Talos: `namespace/pod` for a sandbox, `namespace/pod:container:12 hex` for a container. Only
//! sandboxes that are ready are told, and what is in them.

use super::output::Fault;
use crate::cri::{self, Client};
use crate::places::Places;
use podium_init::paths;
use podium_wire::cri::{
    Container, ContainerState, ContainerStatusRequest, ListContainerStatsRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxState, PodSandboxStatusRequest,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

/// For the whole of one answer. A containerd that pulls and starts many pods is slow.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// So much of an id tells a container from others.
const SHORT_ID: usize = 12;

/// The containers of ready pods.
pub(super) async fn list(places: &Places) -> Result<Value, Fault> {
    limited(async {
        let mut client = connect(places).await?;
        let (sandboxes, containers) = both(&mut client).await?;
        let mut rows = Vec::new();
        for sandbox in &sandboxes {
            rows.push(sandbox_row(&mut client, sandbox).await);
            for container in containers.iter().filter(|one| one.pod_sandbox_id == sandbox.id) {
                rows.push(container_row(&mut client, sandbox, container).await);
            }
        }
        Ok(json!({"ok": true, "containers": rows}))
    })
    .await
}

/// CPU and memory of the containers of ready pods.
pub(super) async fn stats(places: &Places) -> Result<Value, Fault> {
    limited(async {
        let mut client = connect(places).await?;
        let (sandboxes, containers) = both(&mut client).await?;
        let stats = client.list_container_stats(ListContainerStatsRequest {}).await.map_err(|error| of(&error))?;
        let stats = stats.into_inner().stats.into_iter();
        let by_id: BTreeMap<String, _> =
            stats.filter_map(|one| Some((one.attributes.clone()?.id, one))).collect();
        let mut rows = Vec::new();
        for sandbox in &sandboxes {
            for container in containers.iter().filter(|one| one.pod_sandbox_id == sandbox.id) {
                let Some(stat) = by_id.get(&container.id) else { continue };
                let memory = stat.memory.as_ref().and_then(|memory| memory.working_set_bytes);
                let cpu = stat.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds);
                rows.push(json!({
                    "id": container_id(sandbox, container), "pod_id": pod_id(sandbox), "name": name(container),
                    "memory_usage": memory.map_or(0, |one| one.value), "cpu_usage": cpu.map_or(0, |one| one.value),
                }));
            }
        }
        Ok(json!({"ok": true, "stats": rows}))
    })
    .await
}

async fn limited(answer: impl Future<Output = Result<Value, Fault>>) -> Result<Value, Fault> {
    let late =
        || Fault::unavailable(format!("containerd has not answered within {} s", ANSWER_LIMIT.as_secs()));
    timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| Err(late()))
}

async fn connect(places: &Places) -> Result<Client, Fault> {
    let client = cri::connect(&places.at(paths::CONTAINERD_SOCKET)).await;
    client.map_err(|error| Fault::unavailable(format!("containerd: {error:#}")))
}

fn of(status: &tonic::Status) -> Fault {
    Fault::unavailable(format!("containerd: {}", status.message()))
}

/// Ready sandboxes and all containers, each sorted by what they are called.
async fn both(client: &mut Client) -> Result<(Vec<PodSandbox>, Vec<Container>), Fault> {
    let sandboxes = client.list_pod_sandbox(ListPodSandboxRequest {}).await.map_err(|error| of(&error))?;
    let containers = client.list_containers(ListContainersRequest {}).await.map_err(|error| of(&error))?;
    let mut sandboxes = sandboxes.into_inner().items;
    sandboxes.retain(|sandbox| sandbox.state() == PodSandboxState::SandboxReady);
    sandboxes.sort_by_cached_key(pod_id);
    let mut containers = containers.into_inner().containers;
    containers.sort_by_cached_key(|one| (name(one), std::cmp::Reverse(one.created_at)));
    Ok((sandboxes, containers))
}

/// What is asked of one alone may fail, as it may just have ended: the row has less then.
async fn sandbox_row(client: &mut Client, sandbox: &PodSandbox) -> Value {
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: true };
    let info = client.pod_sandbox_status(request).await.map(|answer| answer.into_inner().info);
    let info = details(&info.unwrap_or_default());
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces").and_then(Value::as_array);
    let network = namespaces.into_iter().flatten().find(|one| one.get("type") == Some(&json!("network")));
    let network = network.and_then(|one| one.get("path")).and_then(Value::as_str).unwrap_or_default();
    let image = info.get("image").and_then(Value::as_str);
    json!({
        "id": pod_id(sandbox), "pod_id": pod_id(sandbox), "name": "", "image": image.unwrap_or_default(),
        "pid": pid(&info), "status": sandbox.state().as_str_name(), "network_namespace": network,
        "internal_id": sandbox.id, "uid": sandbox.metadata.as_ref().map_or("", |metadata| &metadata.uid),
    })
}

async fn container_row(client: &mut Client, sandbox: &PodSandbox, container: &Container) -> Value {
    let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
    let answer = client.container_status(request).await.map(tonic::Response::into_inner).unwrap_or_default();
    let asked = container.image.as_ref().map_or("", |image| image.image.as_str());
    // The list has the image's digest, the status the name that the pod has.
    let named =
        answer.status.as_ref().and_then(|status| status.image.as_ref()).map(|image| image.image.as_str());
    let image = named.filter(|image| !image.is_empty()).unwrap_or(asked);
    let is_running = container.state() == ContainerState::ContainerRunning;
    let pid = if is_running { pid(&details(&answer.info)) } else { 0 };
    json!({
        "id": container_id(sandbox, container), "pod_id": pod_id(sandbox), "name": name(container), "image": image,
        "pid": pid, "status": container.state().as_str_name(), "network_namespace": "",
        "internal_id": container.id, "uid": sandbox.metadata.as_ref().map_or("", |metadata| &metadata.uid),
    })
}

/// What containerd says beside the CRI.
fn details(info: &std::collections::HashMap<String, String>) -> Value {
    info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn pid(info: &Value) -> u64 {
    info.get("pid").and_then(Value::as_u64).unwrap_or(0)
}

fn pod_id(sandbox: &PodSandbox) -> String {
    let metadata = sandbox.metadata.clone().unwrap_or_default();
    format!("{}/{}", metadata.namespace, metadata.name)
}

fn container_id(sandbox: &PodSandbox, container: &Container) -> String {
    let short: String = container.id.chars().take(SHORT_ID).collect();
    format!("{}:{}:{short}", pod_id(sandbox), name(container))
}

fn name(container: &Container) -> String {
    container.metadata.clone().unwrap_or_default().name
}
