//! `reboot`, `shutdown`, `reset`: an order to nodes, and how it goes until it is done.

use super::wait::{self, Goal, WaitArguments};
use crate::cli::Global;
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::say;
use anyhow::Result;
use clap::{Args, ValueEnum};
use podium_wire::machine::{
    RebootRequest, ResetPartitionSpec, ResetRequest, ShutdownRequest, reboot_request, reset_request,
};

/// Reboot nodes
///
/// With --wait (which is so unless --wait=false is given) it shows what the node does, and ends when the node has
/// booted anew and says that it is ready.
#[derive(Debug, Args)]
pub(crate) struct Reboot {
    /// How
    #[arg(short, long, value_enum, default_value_t = Mode::Default)]
    mode: Mode,
    #[command(flatten)]
    wait: WaitArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// Stop the pods and services first
    Default,
    /// talosctl's word; a Podium node always stops its pods first
    Powercycle,
    /// talosctl's word; a Podium node always stops its pods first
    Force,
}

/// Turn nodes off
#[derive(Debug, Args)]
pub(crate) struct Shutdown {
    /// talosctl's word; a Podium node always stops its pods first
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArguments,
}

/// Wipe nodes: config, keys, images and the pods' data go
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// talosctl's word; a Podium node always stops its pods first
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    graceful: bool,
    /// Reboot afterwards instead of turning off: the node then waits for a new config
    #[arg(long)]
    reboot: bool,
    /// Only wipe these partitions of the system disk: STATE, EPHEMERAL
    #[arg(long, value_delimiter = ',', value_name = "LABEL")]
    system_labels_to_wipe: Vec<String>,
    /// Which disks
    #[arg(long, value_enum, default_value_t = Wipe::All)]
    wipe_mode: Wipe,
    /// Disks to wipe beside the system's
    #[arg(long, value_delimiter = ',', value_name = "DEVICE")]
    user_disks_to_wipe: Vec<String>,
    #[command(flatten)]
    wait: WaitArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wipe {
    All,
    SystemDisk,
    UserDisks,
}

pub(crate) async fn reboot(global: &Global, arguments: &Reboot) -> Result<()> {
    let mode = match arguments.mode {
        Mode::Default => reboot_request::Mode::Default,
        Mode::Powercycle => reboot_request::Mode::Powercycle,
        Mode::Force => reboot_request::Mode::Force,
    };
    if !matches!(arguments.mode, Mode::Default) {
        changes_nothing("--mode");
    }
    let request = RebootRequest { mode: mode.into() };
    let order = move |node: Node| async move {
        let reply = node.machine().reboot(request).await.map_err(|status| node.fault("Reboot", &status))?;
        Ok(reply.into_inner().messages.into_iter().map(|message| message.actor_id).next().unwrap_or_default())
    };
    give(global, "reboot", Goal::Rebooted, &arguments.wait, order).await
}

pub(crate) async fn shutdown(global: &Global, arguments: &Shutdown) -> Result<()> {
    if arguments.force {
        changes_nothing("--force");
    }
    let request = ShutdownRequest { force: arguments.force };
    let order = move |node: Node| async move {
        let reply =
            node.machine().shutdown(request).await.map_err(|status| node.fault("Shutdown", &status))?;
        Ok(reply.into_inner().messages.into_iter().map(|message| message.actor_id).next().unwrap_or_default())
    };
    give(global, "shutdown", Goal::Off, &arguments.wait, order).await
}

pub(crate) async fn reset(global: &Global, arguments: &Reset) -> Result<()> {
    let labels = arguments.system_labels_to_wipe.iter();
    let mode = match arguments.wipe_mode {
        Wipe::All => reset_request::WipeMode::All,
        Wipe::SystemDisk => reset_request::WipeMode::SystemDisk,
        Wipe::UserDisks => reset_request::WipeMode::UserDisks,
    };
    if !arguments.graceful {
        changes_nothing("--graceful=false");
    }
    let request = ResetRequest {
        graceful: arguments.graceful,
        reboot: arguments.reboot,
        system_partitions_to_wipe: labels
            .map(|label| ResetPartitionSpec { label: label.clone(), wipe: true })
            .collect(),
        user_disks_to_wipe: arguments.user_disks_to_wipe.clone(),
        mode: mode.into(),
    };
    let order = move |node: Node| {
        let request = request.clone();
        async move {
            let reply = node.machine().reset(request).await.map_err(|status| node.fault("Reset", &status))?;
            Ok(reply
                .into_inner()
                .messages
                .into_iter()
                .map(|message| message.actor_id)
                .next()
                .unwrap_or_default())
        }
    };
    let goal = goal(arguments.reboot, &arguments.system_labels_to_wipe);
    give(global, "reset", goal, &arguments.wait, order).await
}

/// Scripts for talosctl give such flags; who gives one in need must not take the order for a quicker one.
fn changes_nothing(flag: &str) {
    say::warn(&format!("{flag} changes nothing: a Podium node always stops its pods first"));
}

/// What a reset is to end in, by the partitions that are wiped; none: all.
fn goal(reboot: bool, labels: &[String]) -> Goal {
    // Its certificates go with its config: it answers as another node, if it comes back.
    let keeps_config =
        !labels.is_empty() && !labels.iter().any(|label| label == podium_init::shutdown::Reset::STATE);
    match (reboot, keeps_config) {
        (false, _) => Goal::OffWiped,
        (true, true) => Goal::Rebooted,
        (true, false) => Goal::Forgotten,
    }
}

async fn give<F, Fut>(
    global: &Global,
    what: &'static str,
    goal: Goal,
    wait: &WaitArguments,
    order: F,
) -> Result<()>
where
    F: Fn(Node) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<String, Fault>> + Send + 'static,
{
    let session = Session::new(global)?;
    if wait.wait {
        let limit = wait.timeout;
        let track = move |node: Node| wait::track(node, what, goal, limit, order.clone());
        session.each(track).await?;
    } else {
        for (node, actor) in session.each(order).await? {
            let actor = if actor.is_empty() { String::new() } else { format!(" (actor id {actor})") };
            say::note(&format!("{node}: {what} accepted{actor}"));
        }
    }
    session.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_loses_its_config_comes_back_as_a_stranger_and_without_a_reboot_it_stays_off() {
        for (reboot, labels, wanted) in [
            (false, &[][..], Goal::OffWiped),
            (false, &["EPHEMERAL"], Goal::OffWiped),
            (false, &["STATE"], Goal::OffWiped),
            (true, &[], Goal::Forgotten),
            (true, &["STATE"], Goal::Forgotten),
            (true, &["EPHEMERAL", "STATE"], Goal::Forgotten),
            (true, &["EPHEMERAL"], Goal::Rebooted),
        ] {
            let given: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
            assert_eq!(goal(reboot, &given), wanted, "{reboot} {labels:?}");
        }
    }
}
