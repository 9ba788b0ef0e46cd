//! `machine.MachineService`: each method with its answer; what may be called by whom was decided before (`gate`).

use super::caller::Caller;
use super::events::Stream as EventStream;
use super::facts::Facts;
use super::gate::What;
use super::procfs;
use super::services::Services;
use super::upstream::{Refused, Target};
use super::weight::Scale;
use super::{actions, apply, content};
use podium_init::control::Action;
use podium_wire::common::{ContainerDriver, Data};
use podium_wire::machine::machine_service_server::MachineService;
use podium_wire::machine::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Messages that wait for one slow reader.
const WAITING_MAX: usize = 4;
/// The namespace of services; the other one is Kubernetes'.
const SYSTEM: &str = "system";

type Streamed<T> = ReceiverStream<Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

/// Who calls; every call that reaches a method has one.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::internal("nobody calls"))
}

/// Where it is told what a call is about.
pub(super) fn what<T>(request: &Request<T>) -> What {
    request.extensions().get::<What>().cloned().unwrap_or_default()
}

/// Where its answer has its weight taken.
pub(super) fn scale<T>(request: &Request<T>) -> Result<Scale, Status> {
    request.extensions().get::<Scale>().cloned().ok_or_else(|| Status::internal("nothing to weigh with"))
}

/// An answer of one message, if there is a place for it.
fn weighed<T: prost::Message>(scale: &Scale, message: T) -> Answer<T> {
    scale.of_made(&message)?;
    Ok(Response::new(message))
}

/// The rows of a list in an answer of the node's helper.
fn rows<T: for<'de> Deserialize<'de>>(answer: &Value, name: &str) -> Result<Vec<T>, Status> {
    let list = answer.get(name).cloned().unwrap_or_default();
    serde_json::from_value(list).map_err(|error| Refused::garbled(error).into())
}

#[derive(Deserialize)]
struct ContainerRow {
    id: String,
    pod_id: String,
    name: String,
    image: String,
    pid: u32,
    status: String,
    network_namespace: String,
    internal_id: String,
    uid: String,
}

#[derive(Deserialize)]
struct StatRow {
    id: String,
    pod_id: String,
    name: String,
    memory_usage: u64,
    cpu_usage: u64,
}

#[derive(Deserialize)]
struct MountRow {
    filesystem: String,
    mounted_on: String,
    size: u64,
    available: u64,
}

#[tonic::async_trait]
impl MachineService for Facts {
    async fn apply_configuration(
        &self,
        request: Request<ApplyConfigurationRequest>,
    ) -> Answer<ApplyConfigurationResponse> {
        let (caller, what) = (caller(&request)?, what(&request));
        let applied = apply::apply(self, &caller, &what, request.into_inner()).await?;
        Ok(Response::new(ApplyConfigurationResponse { messages: vec![applied] }))
    }

    async fn containers(&self, request: Request<ContainersRequest>) -> Answer<ContainersResponse> {
        let (target, scale) = (Target::node(caller(&request)?.acts_as()), scale(&request)?);
        let request = request.into_inner();
        let namespace = request.namespace.clone();
        let containers = if request.driver() == ContainerDriver::Containerd && namespace == SYSTEM {
            services_as_containers(&Services::of(&*self.services().await?)?)
        } else {
            let answer = self.upstream.ask(target, &json!({"request": "containers"})).await?;
            let rows: Vec<ContainerRow> = rows(&answer, "containers")?;
            rows.into_iter().map(|row| row.info(&namespace)).collect()
        };
        weighed(&scale, ContainersResponse { messages: vec![Container { metadata: None, containers }] })
    }

    type DiskUsageStream = Streamed<DiskUsageInfo>;

    async fn disk_usage(&self, request: Request<DiskUsageRequest>) -> Answer<Self::DiskUsageStream> {
        let target = Target::node(caller(&request)?.acts_as());
        Ok(Response::new(content::disk_usage(self, target, request.into_inner()).await?))
    }

    type DmesgStream = Streamed<Data>;

    async fn dmesg(&self, request: Request<DmesgRequest>) -> Answer<Self::DmesgStream> {
        let target = Target::node(caller(&request)?.acts_as());
        let DmesgRequest { follow, tail } = request.into_inner();
        let request = json!({"request": "dmesg", "follow": follow, "tail": tail});
        Ok(Response::new(content::bytes(self, target, &request).await?))
    }

    type EventsStream = Streamed<Event>;

    async fn events(&self, request: Request<EventsRequest>) -> Answer<Self::EventsStream> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let stream = EventStream {
            log: self.feeds.events.watch(),
            status: self.feeds.status.watch(),
            request: request.into_inner(),
            actor: self.actor.clone(),
        };
        tokio::spawn(stream.tell(sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn hostname(&self, _request: Request<()>) -> Answer<HostnameResponse> {
        let hostname = Hostname { metadata: None, hostname: self.setup().hostname.clone() };
        Ok(Response::new(HostnameResponse { messages: vec![hostname] }))
    }

    type ListStream = Streamed<FileInfo>;

    async fn list(&self, request: Request<ListRequest>) -> Answer<Self::ListStream> {
        let target = Target::node(caller(&request)?.acts_as());
        Ok(Response::new(content::list(self, target, request.into_inner()).await?))
    }

    async fn load_avg(&self, _request: Request<()>) -> Answer<LoadAvgResponse> {
        Ok(Response::new(LoadAvgResponse { messages: vec![procfs::load_avg(&self.places)?] }))
    }

    type LogsStream = Streamed<Data>;

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        let target = Target::node(caller(&request)?.acts_as());
        let request = request.into_inner();
        let namespace = if request.driver() == ContainerDriver::Cri { "k8s.io" } else { &request.namespace };
        let mut wanted =
            json!({"request": "logs", "namespace": namespace, "id": request.id, "follow": request.follow});
        // Negative: all.
        if let Ok(tail) = u64::try_from(request.tail_lines) {
            wanted["tail"] = tail.into();
        }
        Ok(Response::new(content::bytes(self, target, &wanted).await?))
    }

    async fn logs_containers(&self, request: Request<()>) -> Answer<LogsContainersResponse> {
        let target = Target::node(caller(&request)?.acts_as());
        let answer = self.upstream.ask(target, &json!({"request": "log ids"})).await?;
        let ids = rows(&answer, "ids")?;
        Ok(Response::new(LogsContainersResponse { messages: vec![LogsContainer { metadata: None, ids }] }))
    }

    async fn memory(&self, _request: Request<()>) -> Answer<MemoryResponse> {
        Ok(Response::new(MemoryResponse { messages: vec![procfs::memory(&self.places)?] }))
    }

    async fn mounts(&self, request: Request<()>) -> Answer<MountsResponse> {
        let (target, scale) = (Target::node(caller(&request)?.acts_as()), scale(&request)?);
        let answer = self.upstream.ask(target, &json!({"request": "mounts"})).await?;
        let rows: Vec<MountRow> = rows(&answer, "mounts")?;
        let stats = rows.into_iter().map(|row| MountStat {
            filesystem: row.filesystem,
            size: row.size,
            available: row.available,
            mounted_on: row.mounted_on,
        });
        let mounts = Mounts { metadata: None, stats: stats.collect() };
        weighed(&scale, MountsResponse { messages: vec![mounts] })
    }

    async fn processes(&self, request: Request<()>) -> Answer<ProcessesResponse> {
        let processes = self.processes().await?;
        // They are shared, and copied once there is a place.
        scale(&request)?.of_answer(&*processes).await?;
        Ok(Response::new(ProcessesResponse { messages: vec![(*processes).clone()] }))
    }

    type ReadStream = Streamed<Data>;

    async fn read(&self, request: Request<ReadRequest>) -> Answer<Self::ReadStream> {
        let target = Target::node(caller(&request)?.acts_as());
        what(&request).is(&request.get_ref().path);
        let wanted = json!({"request": "read", "path": request.get_ref().path});
        Ok(Response::new(content::bytes(self, target, &wanted).await?))
    }

    async fn reboot(&self, request: Request<RebootRequest>) -> Answer<RebootResponse> {
        let caller = caller(&request)?;
        what(&request).is(request.get_ref().mode().as_str_name());
        let actor_id = actions::end(self, &caller, &json!({"request": "reboot"})).await?;
        Ok(Response::new(RebootResponse { messages: vec![Reboot { metadata: None, actor_id }] }))
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Answer<ResetResponse> {
        let caller = caller(&request)?;
        let wanted = actions::reset(request.get_ref())?;
        what(&request).is(wanted.to_string());
        let actor_id = actions::end(self, &caller, &wanted).await?;
        Ok(Response::new(ResetResponse { messages: vec![Reset { metadata: None, actor_id }] }))
    }

    async fn service_list(&self, _request: Request<()>) -> Answer<ServiceListResponse> {
        let services = Services::of(&*self.services().await?)?.infos();
        Ok(Response::new(ServiceListResponse { messages: vec![ServiceList { metadata: None, services }] }))
    }

    async fn service_restart(
        &self,
        request: Request<ServiceRestartRequest>,
    ) -> Answer<ServiceRestartResponse> {
        let caller = caller(&request)?;
        what(&request).is(&request.get_ref().id);
        let resp = actions::service(self, &caller, &request.get_ref().id, Action::Restart).await?;
        Ok(Response::new(ServiceRestartResponse { messages: vec![ServiceRestart { metadata: None, resp }] }))
    }

    async fn service_start(&self, request: Request<ServiceStartRequest>) -> Answer<ServiceStartResponse> {
        let caller = caller(&request)?;
        what(&request).is(&request.get_ref().id);
        let resp = actions::service(self, &caller, &request.get_ref().id, Action::Start).await?;
        Ok(Response::new(ServiceStartResponse { messages: vec![ServiceStart { metadata: None, resp }] }))
    }

    async fn service_stop(&self, request: Request<ServiceStopRequest>) -> Answer<ServiceStopResponse> {
        let caller = caller(&request)?;
        what(&request).is(&request.get_ref().id);
        let resp = actions::service(self, &caller, &request.get_ref().id, Action::Stop).await?;
        Ok(Response::new(ServiceStopResponse { messages: vec![ServiceStop { metadata: None, resp }] }))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        let caller = caller(&request)?;
        let actor_id = actions::end(self, &caller, &json!({"request": "power off"})).await?;
        Ok(Response::new(ShutdownResponse { messages: vec![Shutdown { metadata: None, actor_id }] }))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Answer<StatsResponse> {
        let (target, scale) = (Target::node(caller(&request)?.acts_as()), scale(&request)?);
        let namespace = request.into_inner().namespace;
        let answer = self.upstream.ask(target, &json!({"request": "stats"})).await?;
        let rows: Vec<StatRow> = rows(&answer, "stats")?;
        let stats = rows.into_iter().map(|row| Stat {
            namespace: namespace.clone(),
            id: row.id,
            memory_usage: row.memory_usage,
            cpu_usage: row.cpu_usage,
            pod_id: row.pod_id,
            name: row.name,
        });
        let stats = Stats { metadata: None, stats: stats.collect() };
        weighed(&scale, StatsResponse { messages: vec![stats] })
    }

    async fn system_stat(&self, _request: Request<()>) -> Answer<SystemStatResponse> {
        Ok(Response::new(SystemStatResponse { messages: vec![procfs::system_stat(&self.places)?] }))
    }

    async fn version(&self, request: Request<()>) -> Answer<VersionResponse> {
        let target = Target::init(caller(&request)?.acts_as());
        let answer = self.upstream.ask(target, &json!({"request": "version"})).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let place = if self.setup().container { "container" } else { "metal" };
        let version = Version {
            metadata: None,
            version: Some(VersionInfo {
                tag: format!("v{}", text("podium").trim_start_matches('v')),
                sha: text("build_id").to_owned(),
                os: "linux".to_owned(),
                arch: arch.to_owned(),
                ..VersionInfo::default()
            }),
            platform: Some(PlatformInfo { name: place.to_owned(), mode: place.to_owned() }),
            features: Some(FeaturesInfo { rbac: true }),
        };
        Ok(Response::new(VersionResponse { messages: vec![version] }))
    }
}

impl ContainerRow {
    fn info(self, namespace: &str) -> ContainerInfo {
        ContainerInfo {
            namespace: namespace.to_owned(),
            id: self.id,
            image: self.image,
            pid: self.pid,
            status: self.status,
            pod_id: self.pod_id,
            name: self.name,
            network_namespace: self.network_namespace,
            internal_id: self.internal_id,
            uid: self.uid,
        }
    }
}

/// Podium's services are processes; who asks for the system's containers means these.
fn services_as_containers(services: &Services) -> Vec<ContainerInfo> {
    let running = services.services.iter().filter_map(|service| Some((service, service.pid?)));
    let rows = running.map(|(service, pid)| ContainerInfo {
        namespace: SYSTEM.to_owned(),
        id: service.id.clone(),
        pid,
        status: "RUNNING".to_owned(),
        pod_id: service.id.clone(),
        name: service.id.clone(),
        internal_id: service.id.clone(),
        ..ContainerInfo::default()
    });
    rows.collect()
}
