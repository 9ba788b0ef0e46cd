//! `health`: whether a node is well: it answers, its services run, it says that it is ready, its pods are ready. It
//! waits for each in turn.

use super::get;
use crate::cli::Global;
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::say;
use anyhow::Result;
use clap::Args;
use podium_podiumctl::{listing, resource, times};
use podium_wire::resources::{NODE_STATUSES, STATIC_POD_STATUSES, STATIC_PODS};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks: a pod becomes ready in seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Check the health of nodes: API, services, readiness, static pods
///
/// Waits for each until it is well. Exit code 0: all are.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long to wait for all of it; 0s looks once
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = times::parse)]
    wait_timeout: Duration,
}

pub(crate) async fn run(global: &Global, arguments: &Arguments) -> Result<()> {
    let session = Session::new(global)?;
    let until = Instant::now() + arguments.wait_timeout;
    session.each(move |node| check(node, until)).await?;
    session.verdict()
}

async fn check(node: Node, until: Instant) -> Result<(), Fault> {
    for (name, which) in [
        ("the API", Check::Api),
        ("services", Check::Services),
        ("readiness", Check::Ready),
        ("static pods", Check::Pods),
    ] {
        let mut said = String::new();
        loop {
            let well = match which {
                Check::Api => api(&node).await,
                Check::Services => services(&node).await,
                Check::Ready => ready(&node).await,
                Check::Pods => pods(&node).await,
            };
            let Err(why) = well else {
                say::note(&format!("{}: waiting for {name}: OK", node.name));
                break;
            };
            if Instant::now() + LOOK_EVERY > until {
                return Err(Fault::new(format!("{}: {name}: {why}", node.name))
                    .remedy("podiumctl services, get staticpodstatus and events show more"));
            }
            if why != said {
                say::note(&format!("{}: waiting for {name}: {why}", node.name));
                said = why;
            }
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Check {
    Api,
    Services,
    Ready,
    Pods,
}

async fn api(node: &Node) -> Result<(), String> {
    node.machine().version(()).await.map(drop).map_err(|status| node.fault("Version", &status).what)
}

async fn services(node: &Node) -> Result<(), String> {
    let reply = node.machine().service_list(()).await;
    let reply = reply.map_err(|status| node.fault("ServiceList", &status).what)?.into_inner();
    let all = reply.messages.iter().flat_map(|message| &message.services);
    let ill: Vec<String> = all
        .filter(|one| listing::is_healthy(one) == Some(false))
        .map(|one| format!("{} is {}", one.id, one.state))
        .collect();
    if ill.is_empty() { Ok(()) } else { Err(ill.join(", ")) }
}

/// Whether the node says that all is well; one that does not tell is ready when it answers.
///
/// # Errors
/// What it says instead.
pub(super) async fn ready(node: &Node) -> Result<(), String> {
    let statuses =
        get::list(node, "runtime".into(), NODE_STATUSES.into()).await.map_err(|fault| fault.what)?;
    let specs: Vec<_> = statuses.iter().map(resource::spec_value).collect();
    if specs.is_empty() || specs.iter().any(|spec| spec["ready"] == true) {
        return Ok(());
    }
    let stages: Vec<&str> = specs.iter().filter_map(|spec| spec["stage"].as_str()).collect();
    Err(format!("the node is {}", stages.join(", ")))
}

async fn pods(node: &Node) -> Result<(), String> {
    let fault = |fault: Fault| fault.what;
    let wanted = get::list(node, "k8s".into(), STATIC_PODS.into()).await.map_err(fault)?;
    let seen = get::list(node, "k8s".into(), STATIC_POD_STATUSES.into()).await.map_err(fault)?;
    let is_ready = |spec: &serde_json::Value| {
        let conditions = spec["conditions"].as_array().into_iter().flatten();
        let ready = conditions.filter(|one| one["type"] == "Ready").any(|one| one["status"] == "True");
        // A pod that has done its work and ends is well, too.
        ready || spec["phase"] == "Succeeded"
    };
    let id =
        |one: &podium_wire::cosi::Resource| one.metadata.as_ref().map(|it| it.id.clone()).unwrap_or_default();
    let ill: Vec<String> = seen.iter().filter(|one| !is_ready(&resource::spec_value(one))).map(id).collect();
    if !ill.is_empty() {
        return Err(format!("not ready: {}", ill.join(", ")));
    }
    if seen.len() < wanted.len() {
        return Err(format!("{} of {} have a status", seen.len(), wanted.len()));
    }
    Ok(())
}
