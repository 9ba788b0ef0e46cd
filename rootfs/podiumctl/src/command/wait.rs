//! How an order goes: the node's events while it goes down, then whether it comes back as it should.
//!
//! Events say what the node does; that it did it is seen from outside, by another boot id, by its silence, or by its
//! waiting for a config. Everything is bounded by --timeout.

use crate::client::Node;
use crate::command::health;
use crate::fault::Fault;
use crate::say;
use clap::Args;
use podium_podiumctl::table::printable;
use podium_podiumctl::{listing, times};
use podium_wire::machine::{Event, EventsRequest, ReadRequest};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tonic::{Code, Streaming};

/// Between two looks at a node that is down: a boot takes many of these, and one look costs the node nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// One look; a node that is going down may take a connection and say no more.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// A node that has been silent at so many looks in a row is off.
const LOOKS_OFF: u32 = 3;
/// After a reset: a node that could not be wiped boots instead of staying off, which is seen within this.
const LOOKS_OFF_WIPED: u32 = 60;

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
    /// The same, for so long that it has not booted instead.
    OffWiped,
    /// Without what it had: it waits for a config, or has one that knows nobody of the old one.
    Forgotten,
}

/// Gives the order and watches until the goal is reached.
///
/// # Errors
/// The node refuses, says that it failed, or takes too long.
pub(super) async fn track<F, Fut>(
    node: Node,
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
    timeout(limit, track_without_end(node, what, goal, order)).await.unwrap_or_else(|_| {
        let limit = times::compact(limit);
        Err(Fault::new(format!("{name}: {what} is not done after {limit}"))
            .remedy("look at the node's console; --timeout gives it more time"))
    })
}

async fn track_without_end<F, Fut>(node: Node, what: &'static str, goal: Goal, order: F) -> Result<(), Fault>
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
        Goal::Off => off(&node, LOOKS_OFF).await,
        Goal::OffWiped => off_wiped(&node).await,
        Goal::Forgotten => forgotten(&node, before).await,
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
        say::note(&line(&node.name, source, message));
        if message.starts_with("error:") {
            return Err(Fault::new(format!("{}: {what} has failed: {message}", node.name)));
        }
    }
    Ok(())
}

/// An event is one line, whatever is in it.
fn line(node: &str, source: &str, message: &str) -> String {
    format!("{node}: {}: {}", printable(source), printable(message))
}

async fn rebooted(node: &Node, before: Option<String>) -> Result<(), Fault> {
    let mut booted = false;
    let mut watch = Boots::new(before);
    loop {
        let now = timeout(LOOK_LIMIT, boot(node)).await.ok().flatten();
        if watch.is_another(now.as_deref()) {
            if !std::mem::replace(&mut booted, true) {
                say::note(&format!("{}: has booted", node.name));
            }
            if matches!(timeout(LOOK_LIMIT, health::ready(node)).await, Ok(Ok(()))) {
                say::note(&format!("{}: is ready", node.name));
                return Ok(());
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn off_wiped(node: &Node) -> Result<(), Fault> {
    off(node, LOOKS_OFF).await?;
    let stranger = node.without_certificate().map_err(|error| Fault::new(format!("{error:#}")))?;
    for _ in LOOKS_OFF..LOOKS_OFF_WIPED {
        let look = async {
            let stranger = stranger.only().await.ok()?;
            stranger.machine().version(()).await.ok()
        };
        let known = timeout(LOOK_LIMIT, node.machine().version(())).await;
        let is_back = matches!(known, Ok(Ok(_))) || matches!(timeout(LOOK_LIMIT, look).await, Ok(Some(_)));
        if is_back {
            return Err(Fault::new(format!(
                "{}: has booted instead of turning off: it was not wiped",
                node.name
            ))
            .remedy("that boot has tried once more; its console says how it went"));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn off(node: &Node, looks: u32) -> Result<(), Fault> {
    let mut silent = 0;
    while silent < looks {
        let answer = timeout(LOOK_LIMIT, node.machine().version(())).await;
        silent = if matches!(answer, Ok(Ok(_))) { 0 } else { silent + 1 };
        sleep(LOOK_EVERY).await;
    }
    say::note(&format!("{}: is off, or at least silent", node.name));
    Ok(())
}

/// Whether what answers is the node of another boot than before.
#[derive(Debug)]
struct Boots {
    before: Option<String>,
    /// Without its old id only a node that was silent has gone down.
    was_silent: bool,
}

impl Boots {
    fn new(before: Option<String>) -> Self {
        Self { before, was_silent: false }
    }

    /// Takes one look: the boot id, if there was an answer.
    fn is_another(&mut self, now: Option<&str>) -> bool {
        match (now, &self.before) {
            (None, _) => {
                self.was_silent = true;
                false
            }
            (Some(now), Some(before)) => now != before,
            (Some(_), None) => self.was_silent,
        }
    }
}

/// A node that was reset knows our certificate no more. One that comes back and does has forgotten nothing.
async fn forgotten(node: &Node, before: Option<String>) -> Result<(), Fault> {
    let session = node.without_certificate().map_err(|error| Fault::new(format!("{error:#}")))?;
    let mut watch = Boots::new(before);
    loop {
        let known = timeout(LOOK_LIMIT, boot(node)).await.ok().flatten();
        if watch.is_another(known.as_deref()) {
            let what = format!("{}: has come back with the CA that it had", node.name);
            return Err(Fault::new(what).remedy(
                "either it was not wiped, and its console says why, or it is given this config at each boot",
            ));
        }
        let look = async {
            let stranger = session.only().await.ok()?;
            Some(stranger.machine().version(()).await)
        };
        // Before it goes down it lets nobody in without a certificate either.
        match timeout(LOOK_LIMIT, look).await.ok().flatten() {
            Some(Ok(_)) => {
                say::note(&format!("{}: waits for a config", node.name));
                return Ok(());
            }
            Some(Err(_)) if known.is_none() && is_strange(node).await => {
                say::note(&format!(
                    "{}: has another config, which knows no client of the old one",
                    node.name
                ));
                return Ok(());
            }
            _ => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Whether it answers, by a certificate that another CA has signed.
async fn is_strange(node: &Node) -> bool {
    let answer = timeout(LOOK_LIMIT, node.machine().version(())).await;
    answer.is_ok_and(|answer| answer.is_err_and(|status| node.fault("Version", &status).stranger))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_does_not_move_the_terminal() {
        assert_eq!(line("n", "a\u{1b}c", "b\nerror: x\u{7}"), "n: a\\u{1b}c: b\\nerror: x\\u{7}");
    }

    #[test]
    fn a_node_whose_boot_was_not_known_has_booted_when_it_was_silent_in_between() {
        let mut known = Boots::new(Some("a".to_owned()));
        assert!(!known.is_another(Some("a")) && known.is_another(Some("b")));
        let mut unknown = Boots::new(None);
        assert!(!unknown.is_another(Some("a")), "it may not have gone down yet");
        assert!(!unknown.is_another(None) && unknown.is_another(Some("a")));
    }
}
