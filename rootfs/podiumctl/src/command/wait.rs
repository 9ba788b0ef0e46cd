//! How an order goes: the node's events while it goes down, then whether it comes back as it should.
//!
//! Events say what the node does; that it did it is seen from outside, by another boot id, by its silence, or by its
//! waiting for a config. Everything is bounded by --timeout.

use crate::cli::Global;
use crate::client::{Node, Session};
use crate::command::get;
use crate::fault::Fault;
use crate::say;
use clap::Args;
use podium_podiumctl::{listing, resource, times};
use podium_wire::machine::{Event, EventsRequest, ReadRequest};
use podium_wire::resources::NODE_STATUSES;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::{Code, Streaming};

/// Between two looks at a node that is down: a boot takes many of these, and one look costs the node nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// One look; a node that is going down may take a connection and say no more.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// A node that has been silent at so many looks in a row is off.
const LOOKS_OFF: u32 = 3;

/// `--wait` and `--timeout`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArguments {
    /// Show how it goes and wait until it is done; --wait=false only gives the order
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) wait: bool,
    /// With --wait: how long it may take
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = times::parse)]
    pub(crate) timeout: Duration,
}

/// What the node is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Up again, with another boot id, and ready.
    Rebooted,
    /// Silent.
    Off,
    /// Waiting for a config.
    Maintenance,
}

/// Gives the order and watches until the goal is reached.
///
/// # Errors
/// The node refuses, says that it failed, or takes too long.
pub(super) async fn track<F, Fut>(
    node: Node,
    global: Global,
    what: &'static str,
    goal: Goal,
    limit: Duration,
    order: F,
) -> Result<(), Fault>
where
    F: Fn(Node) -> Fut + Send + Sync,
    Fut: Future<Output = Result<String, Fault>> + Send + 'static,
{
    let name = node.name.clone();
    timeout(limit, track_without_end(node, global, what, goal, order)).await.unwrap_or_else(|_| {
        let limit = times::compact(limit);
        Err(Fault::new(format!("{name}: {what} is not done after {limit}"))
            .remedy("look at the node's console; --timeout gives it more time"))
    })
}

async fn track_without_end<F, Fut>(
    node: Node,
    global: Global,
    what: &'static str,
    goal: Goal,
    order: F,
) -> Result<(), Fault>
where
    F: Fn(Node) -> Fut + Send + Sync,
    Fut: Future<Output = Result<String, Fault>> + Send + 'static,
{
    let before = boot(&node).await;
    // Before the order, so that nothing of it is missed; the first message is a hello.
    let events = node.machine().events(EventsRequest::default()).await;
    let mut events = match events {
        Ok(reply) => {
            let mut events = reply.into_inner();
            drop(timeout(LOOK_LIMIT, events.message()).await);
            Some(events)
        }
        Err(status) => {
            say::warn(&format!("events are not shown: {}", node.fault("Events", &status)));
            None
        }
    };
    let actor = order(node.clone()).await?;
    say::note(&format!("{}: {what} accepted, actor id {actor}", node.name));
    if let Some(events) = &mut events {
        show(&node, &actor, what, events).await?;
    }
    say::note(&format!("{}: is going down", node.name));
    match goal {
        Goal::Rebooted => rebooted(&node, before).await,
        Goal::Off => off(&node).await,
        Goal::Maintenance => maintenance(&node, &global).await,
    }
}

/// Shows the events of an action until the node says no more.
async fn show(node: &Node, actor: &str, what: &str, events: &mut Streaming<Event>) -> Result<(), Fault> {
    while let Ok(Some(event)) = events.message().await {
        if !actor.is_empty() && event.actor_id != actor {
            continue;
        }
        let Some(row) = listing::event(&node.name, &event) else { continue };
        let [.., source, message] = row.cells.as_slice() else { continue };
        say::note(&format!("{}: {source}: {message}", node.name));
        if message.starts_with("error:") {
            return Err(Fault::new(format!("{}: {what} has failed: {message}", node.name)));
        }
    }
    Ok(())
}

async fn rebooted(node: &Node, before: Option<String>) -> Result<(), Fault> {
    let mut booted = false;
    loop {
        match timeout(LOOK_LIMIT, boot(node)).await.ok().flatten() {
            Some(now) if before.as_ref() != Some(&now) => {
                if !std::mem::replace(&mut booted, true) {
                    say::note(&format!("{}: has booted", node.name));
                }
                if timeout(LOOK_LIMIT, ready(node)).await.unwrap_or(false) {
                    say::note(&format!("{}: is ready", node.name));
                    return Ok(());
                }
            }
            _ => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn off(node: &Node) -> Result<(), Fault> {
    let mut silent = 0;
    while silent < LOOKS_OFF {
        let answer = timeout(LOOK_LIMIT, node.machine().version(())).await;
        silent = if matches!(answer, Ok(Ok(_))) { 0 } else { silent + 1 };
        sleep(LOOK_EVERY).await;
    }
    say::note(&format!("{}: is off, or at least silent", node.name));
    Ok(())
}

async fn maintenance(node: &Node, global: &Global) -> Result<(), Fault> {
    let global = Global { nodes: vec![node.name.clone()], ..global.clone() };
    loop {
        let look = async {
            let session = Session::insecure(&global, &[]).ok()?;
            session.only().await.ok()?.machine().version(()).await.ok()
        };
        if matches!(timeout(LOOK_LIMIT, look).await, Ok(Some(_))) {
            say::note(&format!("{}: waits for a config", node.name));
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What differs from boot to boot: the kernel's boot id for an admin, the time of the boot for others.
async fn boot(node: &Node) -> Option<String> {
    let request = ReadRequest { path: "/proc/sys/kernel/random/boot_id".to_owned() };
    let read = async {
        let mut stream = node.machine().read(request).await?.into_inner();
        let mut id = Vec::new();
        while let Some(data) = stream.message().await? {
            id.extend_from_slice(&data.bytes);
        }
        Ok::<_, tonic::Status>(String::from_utf8_lossy(&id).trim().to_owned())
    };
    match read.await {
        Ok(id) if !id.is_empty() => Some(id),
        Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unimplemented) => {
            let reply = node.machine().system_stat(()).await.ok()?.into_inner();
            reply.messages.first().map(|stat| stat.boot_time.to_string())
        }
        _ => None,
    }
}

/// Whether the node says that all is well; a node that does not tell is ready when it answers.
async fn ready(node: &Node) -> bool {
    match get::list(node, "runtime".to_owned(), NODE_STATUSES.to_owned()).await {
        Ok(statuses) if statuses.is_empty() => true,
        Ok(statuses) => statuses.iter().any(|status| resource::spec_value(status)["ready"] == true),
        Err(_) => false,
    }
}
