//! The fake's services and its TLS.

use super::fixed;
use podium_podiumctl::pki::{self, Pair};
use podium_podiumctl::talosconfig::{Context, Talosconfig, encode};
use podium_wire::common::Data;
use podium_wire::cosi::state_server::{State, StateServer};
use podium_wire::cosi::{self, EventType};
use podium_wire::machine::machine_service_server::{MachineService, MachineServiceServer};
use podium_wire::machine::*;
use podium_wire::roles::Role;
use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// A node; it lives as long as this.
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) fingerprint: String,
    /// What it was asked, by method, and what it holds.
    pub(crate) seen: Arc<Mutex<Seen>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) asked: Vec<String>,
    pub(crate) config: String,
    pub(crate) boots: u32,
}

#[derive(Clone)]
struct Node(Arc<Mutex<Seen>>, watch::Sender<u32>);

/// A machine CA.
pub(crate) fn new_ca() -> Pair {
    pki::new_ca(OffsetDateTime::now_utc()).unwrap()
}

pub(crate) fn talosconfig(ca: &Pair, role: Role, endpoints: &[String]) -> String {
    let client = pki::new_client(ca, role, OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap();
    let context = Context {
        endpoints: endpoints.to_vec(),
        ca: encode(&ca.crt),
        crt: encode(&client.crt),
        key: encode(&client.key),
        ..Context::default()
    };
    let contexts = [("home".to_owned(), context)].into();
    Talosconfig { context: "home".into(), contexts, ..Talosconfig::default() }.to_text().unwrap()
}

impl Fake {
    /// Serves with mutual TLS under this CA, or in maintenance mode.
    pub(crate) fn start(ca: Option<&Pair>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tls, fingerprint) = tls(ca);
        let seen = Arc::new(Mutex::new(Seen { config: fixed::CONFIG.to_owned(), ..Seen::default() }));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, receiver) = mpsc::channel(8);
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        drop(sender.send(Ok::<_, io::Error>(Peer(tls))).await);
                    }
                });
            }
        });
        let node = Node(Arc::clone(&seen), watch::Sender::new(0));
        let server = Server::builder()
            .add_service(MachineServiceServer::new(node.clone()))
            .add_service(StateServer::new(node));
        runtime.spawn(server.serve_with_incoming(ReceiverStream::new(receiver)));
        Self { address, fingerprint, seen, _runtime: runtime }
    }
}

fn tls(ca: Option<&Pair>) -> (ServerConfig, String) {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let (builder, certificate) = match ca {
        Some(ca) => {
            let issuer = Issuer::from_ca_cert_pem(&ca.crt, KeyPair::from_pem(&ca.key).unwrap()).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.crt.as_bytes()).unwrap()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            (builder.with_client_cert_verifier(verifier), params.signed_by(&key, &issuer).unwrap())
        }
        None => (builder.with_no_client_auth(), params.self_signed(&key).unwrap()),
    };
    let der = certificate.der().clone();
    let fingerprint = pki::fingerprint(&der).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![der], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (config, fingerprint)
}

/// A client's connection, with its role.
struct Peer(TlsStream<TcpStream>);

impl Connected for Peer {
    type ConnectInfo = Option<Role>;

    fn connect_info(&self) -> Option<Role> {
        let certificates = self.0.get_ref().1.peer_certificates()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&certificates[0]).ok()?;
        Role::of(certificate.subject().iter_organization().filter_map(|name| name.as_str().ok()))
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

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
        let config = self.0.lock().unwrap().config.clone();
        let all = fixed::resources(&request.into_inner().r#type, &config).into_iter();
        Ok(stream(all.map(|one| cosi::ListResponse { resource: Some(one) }).collect()))
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
            return Err(Status::invalid_argument(format!("the config has errors\n{}", errors.join("\n"))));
        }
        let mode_details = if request.dry_run {
            "~ machine.sysctls.kernel.panic: \"0\" -> \"10\"\nwould be applied without a reboot".to_owned()
        } else {
            let mut seen = self.0.lock().unwrap();
            seen.asked.push(format!("applied as {}", request.mode().as_str_name()));
            seen.config = text;
            "applied without a reboot".to_owned()
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
        Ok(stream(vec![bytes("kern: info: [2026-01-02T03:04:05Z]: Linux"), bytes(" version 6.18\n")]))
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let (sender, receiver) = mpsc::channel(8);
        let (tail, mut boots) = (request.get_ref().tail_events, self.1.subscribe());
        tokio::spawn(async move {
            let mut batch = vec![Event::default()];
            if tail != 0 {
                batch.extend(fixed::events(""));
            }
            for event in batch {
                drop(sender.send(Ok(event)).await);
            }
            if tail == 0 {
                tokio::select! {
                    _ = boots.changed() => {}
                    () = sender.closed() => return,
                }
                for event in fixed::events("actor-1") {
                    drop(sender.send(Ok(event)).await);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn hostname(&self, _: Request<()>) -> Result<Response<HostnameResponse>, Status> {
        Ok(Response::new(HostnameResponse::default()))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        Ok(stream(fixed::files()))
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
        self.1.send_modify(|boots| *boots += 1);
        let message = Reboot { metadata: None, actor_id: "actor-1".into() };
        Ok(Response::new(RebootResponse { messages: vec![message] }))
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        self.asked(&request, "Reset")?;
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
        let resp = format!("Service {:?} restarted", request.get_ref().id);
        Ok(Response::new(ServiceRestartResponse { messages: vec![ServiceRestart { metadata: None, resp }] }))
    }

    async fn service_start(
        &self,
        request: Request<ServiceStartRequest>,
    ) -> Result<Response<ServiceStartResponse>, Status> {
        let resp = format!("Service {:?} started", request.get_ref().id);
        Ok(Response::new(ServiceStartResponse { messages: vec![ServiceStart { metadata: None, resp }] }))
    }

    async fn service_stop(
        &self,
        request: Request<ServiceStopRequest>,
    ) -> Result<Response<ServiceStopResponse>, Status> {
        let resp = format!("Service {:?} stopped", request.get_ref().id);
        Ok(Response::new(ServiceStopResponse { messages: vec![ServiceStop { metadata: None, resp }] }))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        self.asked(&request, "Shutdown")?;
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
