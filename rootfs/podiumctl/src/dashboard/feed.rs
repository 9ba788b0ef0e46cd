//! Asks the node for what the dashboard shows: a picture every two seconds, and one log as it is written.
//!
//! Each is a task that ends when nobody listens. The channel is short: a terminal that does not draw slows the node's
//! log down and fills no memory.

use super::state::{Health, Item, Snapshot};
use crate::cli::Namespace;
use crate::client::Node;
use podium_podiumctl::{listing, times};
use podium_wire::machine::{
    ContainerInfo, ContainersRequest, CpuStat, LogsRequest, ServiceInfo, Stat, StatsRequest,
};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};
use tonic::Status;

/// As top: fresh enough to watch, seldom enough to cost the node nothing.
const PICTURE_EVERY: Duration = Duration::from_secs(2);
/// What is shown of a log at once.
const LOG_TAIL: i32 = 500;

/// News for the model.
#[derive(Debug)]
pub(super) enum News {
    Picture(Box<Snapshot>),
    Fault(String),
    Log(Vec<u8>),
    LogEnd(String),
}

/// Pictures until nobody listens.
pub(super) async fn pictures(node: Node, news: Sender<News>) {
    let mut before = Before::default();
    loop {
        let taken = match picture(&node, &mut before).await {
            Ok(snapshot) => News::Picture(Box::new(snapshot)),
            Err((method, status)) => News::Fault(node.fault(method, &status).what),
        };
        if news.send(taken).await.is_err() {
            return;
        }
        sleep(PICTURE_EVERY).await;
    }
}

/// A log until it ends.
pub(super) async fn log(node: Node, id: String, is_pod: bool, news: Sender<News>) {
    let (namespace, driver) = Namespace { kubernetes: is_pod }.wire();
    let request = LogsRequest { namespace, id, driver, follow: true, tail_lines: LOG_TAIL };
    let end = match node.machine().logs(request).await {
        Ok(reply) => {
            let mut stream = reply.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(data)) => {
                        if news.send(News::Log(data.bytes.to_vec())).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break "the log has ended".to_owned(),
                    Err(status) => break node.fault("Logs", &status).what,
                }
            }
        }
        Err(status) => node.fault("Logs", &status).what,
    };
    // The dashboard may be over.
    drop(news.send(News::LogEnd(end)).await);
}

/// What the last picture counted: use is a difference.
#[derive(Default)]
struct Before {
    at: Option<Instant>,
    cpu: Option<CpuStat>,
    containers: HashMap<String, u64>,
}

async fn picture(node: &Node, before: &mut Before) -> Result<Snapshot, (&'static str, Status)> {
    let mut machine = node.machine();
    let named = |method: &'static str| move |status: Status| (method, status);
    let (namespace, driver) = Namespace { kubernetes: true }.wire();
    let version = machine.version(()).await.map_err(named("Version"))?.into_inner();
    let containers = ContainersRequest { namespace: namespace.clone(), driver };
    // The node answers although containerd does not: what is known is shown.
    let containers =
        machine.containers(containers).await.map(tonic::Response::into_inner).unwrap_or_default();
    let stats = machine.stats(StatsRequest { namespace, driver }).await;
    let stats = stats.map(tonic::Response::into_inner).unwrap_or_default();
    let services = machine.service_list(()).await.map_err(named("ServiceList"))?.into_inner();
    let memory = machine.memory(()).await.map_err(named("Memory"))?.into_inner();
    let system = machine.system_stat(()).await.map_err(named("SystemStat"))?.into_inner();
    let load = machine.load_avg(()).await.map_err(named("LoadAvg"))?.into_inner();

    let now = Instant::now();
    let seconds = before.at.map(|then| (now - then).as_secs_f64());
    let stats: HashMap<String, Stat> =
        stats.messages.into_iter().flat_map(|one| one.stats).map(|stat| (stat.id.clone(), stat)).collect();
    let mut all: Vec<ContainerInfo> =
        containers.messages.into_iter().flat_map(|one| one.containers).collect();
    all.sort_by(|left, right| left.id.cmp(&right.id));
    let pods = all.iter().map(|one| pod(one, stats.get(&one.id), before, seconds)).collect();
    let services = services.messages.iter().flat_map(|one| &one.services).map(service).collect();

    let stat = system.messages.into_iter().next().unwrap_or_default();
    let cpu_percent =
        stat.cpu_total.as_ref().zip(before.cpu.as_ref()).and_then(|(now, then)| use_of(now, then));
    *before = Before {
        at: Some(now),
        cpu: stat.cpu_total,
        containers: stats.into_iter().map(|(id, stat)| (id, stat.cpu_usage)).collect(),
    };
    let info = memory.messages.into_iter().next().and_then(|one| one.meminfo).unwrap_or_default();
    let load = load.messages.into_iter().next().unwrap_or_default();
    let tag = version.messages.into_iter().next().and_then(|one| one.version).map(|version| version.tag);
    Ok(Snapshot {
        version: tag.unwrap_or_default(),
        pods,
        services,
        cpu_percent,
        cpus: stat.cpu.len(),
        memory_used: info.memtotal.saturating_sub(info.memavailable) * 1024,
        memory_total: info.memtotal * 1024,
        load: [load.load1, load.load5, load.load15],
    })
}

#[expect(clippy::cast_precision_loss, reason = "a percentage is shown")]
fn pod(one: &ContainerInfo, stat: Option<&Stat>, before: &Before, seconds: Option<f64>) -> Item {
    let is_sandbox = one.pod_id.is_empty() || one.id == one.pod_id;
    let cpu = stat.zip(seconds).and_then(|(stat, seconds)| {
        let then = before.containers.get(&one.id)?;
        Some(stat.cpu_usage.saturating_sub(*then) as f64 / 1e7 / seconds.max(0.1))
    });
    // The pod is the line above.
    let name = one.id.strip_prefix(&format!("{}:", one.pod_id)).map(|rest| format!("└─ {rest}"));
    let status = one.status.strip_prefix("SANDBOX_").or(one.status.strip_prefix("CONTAINER_"));
    let status = status.unwrap_or(&one.status);
    Item {
        id: one.id.clone(),
        cells: vec![
            name.unwrap_or_else(|| one.id.clone()),
            status.to_owned(),
            cpu.map(|cpu| format!("{cpu:.1}%")).unwrap_or_default(),
            stat.map(|stat| times::bytes(stat.memory_usage)).unwrap_or_default(),
            if is_sandbox { String::new() } else { one.image.clone() },
        ],
        health: match status {
            "READY" | "RUNNING" => Health::Well,
            "CREATED" => Health::Unknown,
            _ => Health::Ill,
        },
        is_sandbox,
    }
}

fn service(one: &ServiceInfo) -> Item {
    let last = one.events.as_ref().and_then(|events| events.events.last());
    let health = match listing::is_healthy(one) {
        Some(true) => Health::Well,
        Some(false) => Health::Ill,
        None => Health::Unknown,
    };
    Item {
        id: one.id.clone(),
        cells: vec![
            one.id.clone(),
            one.state.clone(),
            listing::health_word(one).to_owned(),
            last.map(|event| event.msg.clone()).unwrap_or_default(),
        ],
        health,
        is_sandbox: false,
    }
}

/// Percent of all CPUs between two moments.
fn use_of(now: &CpuStat, then: &CpuStat) -> Option<f64> {
    let sum = |stat: &CpuStat| {
        stat.user + stat.nice + stat.system + stat.idle + stat.iowait + stat.irq + stat.soft_irq + stat.steal
    };
    let idle = |stat: &CpuStat| stat.idle + stat.iowait;
    let total = sum(now) - sum(then);
    (total > 0.0).then(|| (100.0 * (total - (idle(now) - idle(then))) / total).clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_what_was_not_idle() {
        let then = CpuStat { user: 10.0, idle: 90.0, ..CpuStat::default() };
        let now = CpuStat { user: 11.0, idle: 92.0, iowait: 1.0, ..CpuStat::default() };
        assert_eq!(use_of(&now, &then), Some(25.0));
        assert_eq!(use_of(&then, &then), None);
    }

    #[test]
    fn a_container_is_shown_below_its_pod() {
        let one = ContainerInfo {
            id: "default/web:nginx:0123456789ab".into(),
            pod_id: "default/web".into(),
            status: "CONTAINER_EXITED".into(),
            image: "nginx".into(),
            ..ContainerInfo::default()
        };
        let item = pod(&one, None, &Before::default(), None);
        assert_eq!(item.cells, ["└─ nginx:0123456789ab", "EXITED", "", "", "nginx"]);
        assert_eq!((item.health, item.is_sandbox), (Health::Ill, false));
    }
}
