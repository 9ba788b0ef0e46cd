//! The fake's services.

use super::fixed;
use podium_wire::common::Data;
use podium_wire::cosi::state_server::State;
use podium_wire::cosi::{self, EventType};
use podium_wire::machine::machine_service_server::MachineService;
use podium_wire::machine::*;
use podium_wire::roles::Role;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// Clears a terminal that is sent it.
const HOSTILE: &str = "a\u{1b}[2Jb";

/// What a node was asked, by method, and what it holds.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) asked: Vec<String>,
    pub(crate) config: String,
    pub(crate) boots: u32,
    /// It tells the first of a config's errors alone, as a node whose answer has no room does.
    pub(crate) cuts: bool,
    pub(crate) after: After,
    /// Not all is up.
    pub(crate) is_booting: bool,
}

/// What becomes of a node that was told to shut down, or to wipe itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum After {
    /// It takes no connection any more.
    #[default]
    Silence,
    /// It takes so many connections not, and is then as it was, in another boot.
    Same(u32),
    /// The same, and then it waits for a config.
    Maintenance(u32),
}

/// An order that a node was given, and by what its events tell of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) sequence: &'static str,
    pub(super) actor: &'static str,
}

impl Order {
    /// The fake's reboot takes no time; it is as if it had not been away.
    pub(super) fn ends(self) -> bool {
        matches!(self.sequence, "shutdown" | "reset")
    }
}

#[derive(Clone)]
pub(super) struct Node(pub(super) Arc<Mutex<Seen>>, pub(super) watch::Sender<Order>);

impl Node {
    /// Notes the call, and refuses it as a node does.
    fn asked<T>(&self, request: &Request<T>, method: &str) -> Result<(), Status> {
        let named = |key: &str| request.metadata().get(key).and_then(|value| value.to_str().ok());
        let named = named("nodes").or(named("node")).map(|node| format!(" for {node}")).unwrap_or_default();
        self.0.lock().unwrap().asked.push(format!("{method}{named}"));
        let needed = podium_wire::roles::needed(&format!("/machine.MachineService/{method}"));
        match request.extensions().get::<Option<Role>>().copied().flatten() {
            Some(role) if needed.is_some_and(|needed| role < needed) => {
                Err(Status::permission_denied("not authorized"))
            }
            _ => Ok(()),
        }
    }
}

fn stream<T: Send + 'static>(items: Vec<T>) -> Response<Stream<T>> {
    Response::new(Box::pin(tokio_stream::iter(items.into_iter().map(Ok))))
}

fn bytes(text: &str) -> Data {
    Data { metadata: None, bytes: text.as_bytes().to_vec().into() }
}

#[tonic::async_trait]
impl State for Node {
    type ListStream = Stream<cosi::ListResponse>;
    type WatchStream = Stream<cosi::WatchResponse>;

    async fn get(&self, request: Request<cosi::GetRequest>) -> Result<Response<cosi::GetResponse>, Status> {
        let asked = request.into_inner();
        let config = self.0.lock().unwrap().config.clone();
        let found = fixed::resources(&asked.r#type, &config)
            .into_iter()
            .find(|one| one.metadata.as_ref().is_some_and(|metadata| metadata.id == asked.id));
        found.map(|resource| Response::new(cosi::GetResponse { resource: Some(resource) })).ok_or_else(|| {
            Status::not_found(format!(
                "resource {}({}/{}) doesn't exist",
                asked.r#type, asked.namespace, asked.id
            ))
        })
    }

    async fn list(&self, request: Request<cosi::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (config, is_booting) = {
            let seen = self.0.lock().unwrap();
            (seen.config.clone(), seen.is_booting)
        };
        let mut all = fixed::resources(&request.into_inner().r#type, &config);
        for spec in all.iter_mut().filter(|_| is_booting).filter_map(|one| one.spec.as_mut()) {
            spec.yaml_spec = spec.yaml_spec.replace("running\nready: true", "booting\nready: false");
        }
        Ok(stream(all.into_iter().map(|one| cosi::ListResponse { resource: Some(one) }).collect()))
    }

    async fn watch(
        &self,
        request: Request<cosi::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let event = |kind: EventType, resource| cosi::Event {
            resource,
            event_type: kind.into(),
            ..cosi::Event::default()
        };
        let all = fixed::resources(&request.into_inner().r#type, "");
        let mut changed = all[0].clone();
        changed.metadata.as_mut().unwrap().version = "2".to_owned();
        let first = all.iter().map(|one| event(EventType::Created, Some(one.clone()))).collect();
        let batches = [
            Vec::new(),
            first,
            vec![event(EventType::Bootstrapped, None)],
            vec![event(EventType::Updated, Some(changed.clone()))],
            vec![event(EventType::Destroyed, Some(changed))],
        ];
        Ok(stream(batches.into_iter().map(|event| cosi::WatchResponse { event }).collect()))
    }
}

#[tonic::async_trait]
impl MachineService for Node {
    type DiskUsageStream = Stream<DiskUsageInfo>;
    type DmesgStream = Stream<Data>;
    type EventsStream = Stream<Event>;
    type ListStream = Stream<FileInfo>;
    type LogsStream = Stream<Data>;
    type ReadStream = Stream<Data>;

    async fn apply_configuration(
        &self,
        request: Request<ApplyConfigurationRequest>,
    ) -> Result<Response<ApplyConfigurationResponse>, Status> {
        self.asked(&request, "ApplyConfiguration")?;
        let request = request.into_inner();
        let text = String::from_utf8(request.data.clone()).unwrap();
        let problems = podium_init::config::parse(text.as_bytes()).problems;
        let errors: Vec<String> = problems
            .iter()
            .filter(|problem| problem.severity == podium_init::config::Severity::Error)
            .map(ToString::to_string)
            .collect();
        if !errors.is_empty() {
            let told = match errors.as_slice() {
                [first, rest @ ..] if self.0.lock().unwrap().cuts => {
                    format!("{first}\n… {} more", rest.len())
                }
                all => all.join("\n"),
            };
            return Err(Status::invalid_argument(format!("the config has errors\n{told}")));
        }
        let mode_details = if request.dry_run {
            "Dry run summary:\nApplying it needs no reboot.\nConfig diff:\n~ machine.sysctls.kernel.panic: \"0\" -> \"10\"\n"
                .to_owned()
        } else {
            let mut seen = self.0.lock().unwrap();
            seen.asked.push(format!("applied as {}", request.mode().as_str_name()));
            seen.config = text;
            "Applied configuration without a reboot".to_owned()
        };
        let warnings = problems.iter().map(ToString::to_string).collect();
        let message = ApplyConfiguration { metadata: None, warnings, mode: request.mode, mode_details };
        Ok(Response::new(ApplyConfigurationResponse { messages: vec![message] }))
    }

    async fn containers(
        &self,
        request: Request<ContainersRequest>,
    ) -> Result<Response<ContainersResponse>, Status> {
        self.asked(&request, "Containers")?;
        let namespace = &request.get_ref().namespace;
        Ok(Response::new(ContainersResponse { messages: vec![fixed::containers(namespace)] }))
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        Ok(stream(fixed::usage(&request.get_ref().paths)))
    }

    async fn dmesg(&self, _: Request<DmesgRequest>) -> Result<Response<Self::DmesgStream>, Status> {
        Ok(stream(vec![bytes("kern:    info: [2026-01-02T03:04:05Z]: Linux"), bytes(" version 6.18\n")]))
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        let (tail, mut orders) = (request.get_ref().tail_events, self.1.subscribe());
        tokio::spawn(async move {
            let mut batch = vec![Event::default()];
            if tail != 0 {
                batch.extend(fixed::events("reboot", ""));
            }
            for event in batch {
                drop(sender.send(Ok(event)).await);
            }
            if tail == 0 {
                tokio::select! {
                    _ = orders.changed() => {}
                    () = sender.closed() => return,
                }
                let Order { sequence, actor } = *orders.borrow();
                for event in fixed::events(sequence, actor) {
                    drop(sender.send(Ok(event)).await);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn hostname(&self, _: Request<()>) -> Result<Response<HostnameResponse>, Status> {
        Ok(Response::new(HostnameResponse::default()))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let mut files = fixed::files();
        // As somebody could name a file of a pod's.
        if request.get_ref().root == "/hostile" {
            files[1].relative_name = HOSTILE.to_owned();
        }
        Ok(stream(files))
    }

    async fn load_avg(&self, _: Request<()>) -> Result<Response<LoadAvgResponse>, Status> {
        let load = LoadAvg { load1: 0.12, load5: 0.34, load15: 0.56, ..LoadAvg::default() };
        Ok(Response::new(LoadAvgResponse { messages: vec![load] }))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        self.asked(&request, "Logs")?;
        let asked = request.into_inner();
        if asked.id == "nobody" {
            return Err(Status::not_found("there is no log nobody"));
        }
        if asked.id == "hostile" {
            return Err(Status::not_found(format!("there is no log\n{HOSTILE}")));
        }
        let line = format!("{} {} tail {}\nsecond ", asked.namespace, asked.id, asked.tail_lines);
        Ok(stream(vec![bytes(&line), bytes("line\nno end")]))
    }

    async fn logs_containers(&self, _: Request<()>) -> Result<Response<LogsContainersResponse>, Status> {
        Ok(Response::new(LogsContainersResponse::default()))
    }

    async fn memory(&self, _: Request<()>) -> Result<Response<MemoryResponse>, Status> {
        Ok(Response::new(MemoryResponse { messages: vec![fixed::memory()] }))
    }

    async fn mounts(&self, _: Request<()>) -> Result<Response<MountsResponse>, Status> {
        Ok(Response::new(MountsResponse { messages: vec![fixed::mounts()] }))
    }

    async fn processes(&self, _: Request<()>) -> Result<Response<ProcessesResponse>, Status> {
        Ok(Response::new(ProcessesResponse { messages: vec![fixed::processes()] }))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.asked(&request, "Read")?;
        let boots = self.0.lock().unwrap().boots;
        match request.get_ref().path.as_str() {
            "/proc/sys/kernel/random/boot_id" => Ok(stream(vec![bytes(&format!("boot-{boots}\n"))])),
            path => Ok(stream(vec![bytes("content of "), bytes(path), bytes("\n")])),
        }
    }

    async fn reboot(&self, request: Request<RebootRequest>) -> Result<Response<RebootResponse>, Status> {
        self.asked(&request, "Reboot")?;
        self.0.lock().unwrap().boots += 1;
        self.1.send_replace(Order { sequence: "reboot", actor: "actor-1" });
        let message = Reboot { metadata: None, actor_id: "actor-1".into() };
        Ok(Response::new(RebootResponse { messages: vec![message] }))
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        self.asked(&request, "Reset")?;
        self.1.send_replace(Order { sequence: "reset", actor: "actor-2" });
        Ok(Response::new(ResetResponse {
            messages: vec![Reset { metadata: None, actor_id: "actor-2".into() }],
        }))
    }

    async fn service_list(&self, _: Request<()>) -> Result<Response<ServiceListResponse>, Status> {
        Ok(Response::new(ServiceListResponse { messages: vec![fixed::services()] }))
    }

    async fn service_restart(
        &self,
        request: Request<ServiceRestartRequest>,
    ) -> Result<Response<ServiceRestartResponse>, Status> {
        self.asked(&request, "ServiceRestart")?;
        let resp = format!("Service {:?} is being restarted", request.get_ref().id);
        Ok(Response::new(ServiceRestartResponse { messages: vec![ServiceRestart { metadata: None, resp }] }))
    }

    async fn service_start(
        &self,
        request: Request<ServiceStartRequest>,
    ) -> Result<Response<ServiceStartResponse>, Status> {
        let resp = format!("Service {:?} is being started", request.get_ref().id);
        Ok(Response::new(ServiceStartResponse { messages: vec![ServiceStart { metadata: None, resp }] }))
    }

    async fn service_stop(
        &self,
        request: Request<ServiceStopRequest>,
    ) -> Result<Response<ServiceStopResponse>, Status> {
        let resp = format!("Service {:?} is being stopped", request.get_ref().id);
        Ok(Response::new(ServiceStopResponse { messages: vec![ServiceStop { metadata: None, resp }] }))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        self.asked(&request, "Shutdown")?;
        self.1.send_replace(Order { sequence: "shutdown", actor: "actor-3" });
        Ok(Response::new(ShutdownResponse {
            messages: vec![Shutdown { metadata: None, actor_id: "actor-3".into() }],
        }))
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        Ok(Response::new(StatsResponse { messages: vec![fixed::stats()] }))
    }

    async fn system_stat(&self, _: Request<()>) -> Result<Response<SystemStatResponse>, Status> {
        let boots = u64::from(self.0.lock().unwrap().boots);
        let stat = SystemStat { boot_time: 1_700_000_000 + boots, ..SystemStat::default() };
        Ok(Response::new(SystemStatResponse { messages: vec![stat] }))
    }

    async fn version(&self, request: Request<()>) -> Result<Response<VersionResponse>, Status> {
        self.asked(&request, "Version")?;
        Ok(Response::new(VersionResponse { messages: vec![fixed::version()] }))
    }
}
