//! `apid`, the node's API and its helpers: an ordinary supervised service, never a part of PID 1.
//!
//! `apid pki` makes the node's CA and, at each boot, the certificates by which the kubelet and apid know each other.
//! `apid serve` watches the kubelet's pods and answers on unix sockets what each static pod does and what else of the
//! node only root may see. `apid api` serves the API of the network, without any right of its own. `apid podlist`
//! gives the manifests to the kubelet over http, when the config wants them delivered so. `apid probe` asks the services
//! that are up whether they still do their work, and tells PID 1.
//! It changes nothing on the node but its own files below `/run/podium` and STATE's `pki`.

mod api;
mod changes;
mod cri;
mod files;
mod klog;
mod kubelet;
mod manifests;
mod node;
mod pki;
mod places;
mod podlist;
mod probe;
mod say;
mod serve;
mod socket;
mod status;
mod tail;

use anyhow::{Context, Result, bail};
use places::Places;
use podium_init::services::PROBE;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `apid` says of itself when it is run by hand.
const USAGE: &str = "\
apid: the node's API helper

apid pki [--also-trust=FILE]       make the node's CA and the kubelet's and apid's certificates
apid serve [--kubelet=ADDRESS]     answer on /run/podium/apid.sock what the pods do
apid api [--listen=ADDRESS]        serve the API of the network
apid podlist [--port=PORT]         serve the manifests to the kubelet on loopback
apid probe                         ask the services that are up whether they are healthy

--root=DIR   the node's files are below DIR (for tests)
";

/// What the command line said.
#[derive(Debug, Default)]
struct Options {
    root: Option<PathBuf>,
    also_trust: Option<PathBuf>,
    kubelet: Option<SocketAddr>,
    port: Option<u16>,
    listen: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::loud(&format!("{}: {error:#}", args.first().map_or("", String::as_str)));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let (verb, rest) = args.split_first().map_or(("help", &[][..]), |(verb, rest)| (verb.as_str(), rest));
    let options = options(rest)?;
    let places = Places::below(options.root.as_deref());
    match verb {
        "pki" => pki::run(&places, options.also_trust.as_deref()),
        "serve" => waiting(serve::run(places, options.kubelet)),
        "api" => waiting(api::run(places, options.listen)),
        "podlist" => waiting(podlist::run(&places, options.port)),
        PROBE => waiting(probe::run(places)),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown verb; `apid help` lists them"),
    }
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options::default();
    for arg in args {
        let (name, value) = arg.split_once('=').with_context(|| format!("{arg}: write --name=value"))?;
        match name {
            "--root" => options.root = Some(value.into()),
            "--also-trust" => options.also_trust = Some(value.into()),
            "--kubelet" => options.kubelet = Some(value.parse().with_context(|| arg.clone())?),
            "--listen" => options.listen = Some(value.parse().with_context(|| arg.clone())?),
            "--port" => options.port = Some(value.parse().with_context(|| arg.clone())?),
            _ => bail!("{name}: unknown option; `apid help` lists them"),
        }
    }
    Ok(options)
}

/// Runs a server on one thread, as everything here waits far more than it works, until it fails or SIGTERM comes.
fn waiting(server: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    let ended = runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            ended = server => ended,
            _ = terminated.recv() => Ok(()),
        }
    });
    // A thread that waits for a disk must not keep the service from ending.
    runtime.shutdown_background();
    ended
}
