//! The load of `cargo xtask bench api`: watchers, a client that asks all the time, and one that follows a long log.
//!
//! `bench_api TALOSCONFIG ADDRESS WATCHERS CALLS_A_SECOND LOG`. It ends when all of the log's first GiB has come, and
//! prints what it saw as JSON. Latencies are from when a call was due: a server that stalls does not slow the clock.

use anyhow::{Context, Result, ensure};
use hyper_util::rt::TokioIo;
use podium_podiumctl::talosconfig::Talosconfig;
use podium_wire::cosi::state_client::StateClient;
use podium_wire::cosi::{WatchOptions, WatchRequest};
use podium_wire::machine::LogsRequest;
use podium_wire::machine::machine_service_client::MachineServiceClient;
use podium_wire::resources::SERVICES;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Uri};
use tower::service_fn;

/// What is followed.
const LOG_BYTES: u64 = 1 << 30;
/// Connections of the client that asks: each has 64 calls at a time at most.
const CONNECTIONS: usize = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [talosconfig, address, watchers, rate, log] = words.as_slice() else {
        anyhow::bail!("usage: bench_api TALOSCONFIG ADDRESS WATCHERS CALLS_A_SECOND LOG");
    };
    let (address, watchers, rate): (SocketAddr, usize, u32) =
        (address.parse()?, watchers.parse()?, rate.parse()?);
    let tls = Arc::new(tls(&std::fs::read_to_string(talosconfig)?)?);
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        watching.spawn(watch(connect(address, &tls).await.context("a watcher")?));
    }
    let over = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(ask(address, tls.clone(), rate, over.clone()));
    let (bytes, log_ms) = follow(connect(address, &tls).await?, log).await?;
    over.store(true, Ordering::Relaxed);
    let (mut latencies, seconds) = asking.await??;
    ensure!(watching.try_join_next().is_none(), "a watcher was sent away");
    latencies.sort_by(f64::total_cmp);
    let at = |part: usize| latencies.get((latencies.len().saturating_sub(1)) * part / 1000).copied();
    let calls = u32::try_from(latencies.len())?;
    let result = json!({
        "calls": calls, "calls_a_second": f64::from(calls) / seconds,
        "list_p50_ms": at(500), "list_p99_ms": at(990), "list_max_ms": at(1000),
        "log_bytes": bytes, "log_ms": log_ms,
    });
    println!("{result}");
    Ok(())
}

/// Calls ServiceList at the rate until it is over; each one's milliseconds, and how many seconds it took.
async fn ask(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    rate: u32,
    over: Arc<AtomicBool>,
) -> Result<(Vec<f64>, f64)> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(MachineServiceClient::new(connect(address, &tls).await?));
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (begun, mut calls) = (Instant::now(), JoinSet::new());
    for (number, client) in (0_u32..).zip(clients.iter().cycle()) {
        let due = begun + Duration::from_secs(1) * number / rate;
        sleep_until(due).await;
        while let Some(done) = calls.try_join_next() {
            done??;
        }
        if over.load(Ordering::Relaxed) {
            break;
        }
        let (mut client, seen) = (client.clone(), seen.clone());
        calls.spawn(async move {
            client.service_list(()).await?;
            let took = due.elapsed().as_secs_f64() * 1000.0;
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((seen, begun.elapsed().as_secs_f64()))
}

/// Watches the services; returns only when the node ends it.
async fn watch(channel: Channel) -> Result<()> {
    let options = WatchOptions { bootstrap_contents: true, ..WatchOptions::default() };
    let request = WatchRequest {
        namespace: "runtime".to_owned(),
        r#type: SERVICES.to_owned(),
        id: None,
        options: Some(options),
        api_version: 1,
    };
    let mut stream = StateClient::new(channel).watch(request).await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// Takes the log as fast as it comes.
async fn follow(channel: Channel, log: &str) -> Result<(u64, f64)> {
    let request = LogsRequest {
        namespace: "system".to_owned(),
        id: log.to_owned(),
        follow: true,
        tail_lines: -1,
        ..LogsRequest::default()
    };
    let begun = Instant::now();
    let mut stream = MachineServiceClient::new(channel).logs(request).await?.into_inner();
    let mut bytes = 0;
    while bytes < LOG_BYTES {
        let data = stream.message().await?.context("the log has ended")?;
        bytes += u64::try_from(data.bytes.len())?;
    }
    Ok((bytes, begun.elapsed().as_secs_f64() * 1000.0))
}

async fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Channel> {
    let (uri, origin) = (format!("http://{address}"), format!("https://{address}"));
    let tls = tls.clone();
    let connector = service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::from(address.ip());
            Ok::<_, std::io::Error>(TokioIo::new(TlsConnector::from(tls).connect(name, stream).await?))
        }
    });
    let channel = Channel::builder(uri.parse::<Uri>()?).origin(origin.parse()?);
    Ok(channel.connect_with_connector(connector).await?)
}

fn tls(talosconfig: &str) -> Result<ClientConfig> {
    let file = Talosconfig::parse(talosconfig).map_err(anyhow::Error::msg)?;
    let (_, context) = file.context(None).map_err(anyhow::Error::msg)?;
    let pem = context.pem().map_err(anyhow::Error::msg)?;
    let (ca, crt) = (pem.ca.context("no ca")?, pem.crt.context("no crt")?);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let key = PrivateKeyDer::from_pem_slice(pem.key.context("no key")?.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config =
        builder.with_client_auth_cert(vec![CertificateDer::from_pem_slice(crt.as_bytes())?], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
