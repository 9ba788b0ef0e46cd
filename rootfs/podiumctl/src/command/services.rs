//! `services`, `service ID` and its actions.

use super::now;
use crate::cli::{Global, Output};
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::say;
use anyhow::Result;
use clap::{Args, ValueEnum};
use podium_podiumctl::listing::{self, node_name};
use podium_podiumctl::output::{self, Format};
use podium_wire::machine::{ServiceRestartRequest, ServiceStartRequest, ServiceStopRequest};

/// List services; show, start, stop or restart one
///
///   podiumctl services
///   podiumctl service kubelet
///   podiumctl service kubelet restart
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Service to show, or to act on
    id: Option<String>,
    /// What to do with it
    #[arg(value_enum, default_value_t = Action::Status, hide_default_value = true)]
    action: Action,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Show it (without an action)
    Status,
    /// Start it
    Start,
    /// Stop it; it stays down until it is started or the node reboots
    Stop,
    /// Stop it and start it again
    Restart,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<()> {
    let session = Session::new(global)?;
    let format = arguments.output.output.into();
    match (arguments.id, arguments.action) {
        (None, _) => list(&session, format).await?,
        (Some(id), Action::Status) => show(&session, &id, format).await?,
        (Some(id), action) => act(&session, id, action, format).await?,
    }
    session.verdict()
}

async fn list(session: &Session, format: Format) -> Result<()> {
    let replies =
        session.ask("ServiceList", |node: Node| async move { node.machine().service_list(()).await });
    let replies: Vec<_> = replies.await?.into_iter().map(|(node, reply)| (node, reply.messages)).collect();
    say::data(listing::services(&replies, now()).render(format))
}

async fn show(session: &Session, id: &str, format: Format) -> Result<()> {
    let replies =
        session.ask("ServiceList", |node: Node| async move { node.machine().service_list(()).await });
    let replies: Vec<_> = replies.await?.into_iter().map(|(node, reply)| (node, reply.messages)).collect();
    let Some((text, items)) = listing::service(&replies, id, now()) else {
        let fault = Fault::new(format!("no node has a service {id:?}"));
        return Err(fault.remedy("podiumctl services lists them").into());
    };
    say::data(match format {
        Format::Table => text,
        Format::Yaml => items.iter().map(output::yaml).collect::<Vec<_>>().join("---\n"),
        Format::Json => items.iter().map(output::json).collect(),
    })
}

async fn act(session: &Session, id: String, action: Action, format: Format) -> Result<()> {
    let said = session
        .each(move |node: Node| {
            let id = id.clone();
            async move { order(&node, id, action).await }
        })
        .await?;
    let said: Vec<(String, String)> = said.into_iter().flat_map(|(_, answers)| answers).collect();
    say::data(listing::answers(&said).render(format))
}

async fn order(node: &Node, id: String, action: Action) -> Result<Vec<(String, String)>, Fault> {
    let named = |metadata: Option<&_>, said: String| (node_name(metadata, &node.name).to_owned(), said);
    let fault = |method: &str, status: &tonic::Status| node.fault(method, status);
    let mut machine = node.machine();
    Ok(match action {
        Action::Start => {
            let reply = machine.service_start(ServiceStartRequest { id }).await;
            let messages = reply.map_err(|status| fault("ServiceStart", &status))?.into_inner().messages;
            messages.into_iter().map(|one| named(one.metadata.as_ref(), one.resp)).collect()
        }
        Action::Stop => {
            let reply = machine.service_stop(ServiceStopRequest { id }).await;
            let messages = reply.map_err(|status| fault("ServiceStop", &status))?.into_inner().messages;
            messages.into_iter().map(|one| named(one.metadata.as_ref(), one.resp)).collect()
        }
        Action::Restart => {
            let reply = machine.service_restart(ServiceRestartRequest { id }).await;
            let messages = reply.map_err(|status| fault("ServiceRestart", &status))?.into_inner().messages;
            messages.into_iter().map(|one| named(one.metadata.as_ref(), one.resp)).collect()
        }
        Action::Status => Vec::new(),
    })
}
