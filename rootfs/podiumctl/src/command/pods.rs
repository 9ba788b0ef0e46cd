//! `containers` and `stats`.

use crate::cli::{Global, Namespace, Output};
use crate::client::{Node, Session};
use crate::say;
use anyhow::Result;
use clap::Args;
use podium_podiumctl::listing;
use podium_wire::common::ContainerDriver;
use podium_wire::machine::{ContainersRequest, StatsRequest};

/// List containers: with -k those of pods, each below its pod's sandbox
#[derive(Debug, Args)]
pub(crate) struct Containers {
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

/// Show memory and CPU use of containers: megabytes, and nanoseconds of CPU since their start
#[derive(Debug, Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    namespace: Namespace,
    #[command(flatten)]
    output: Output,
}

impl Namespace {
    /// containerd's name of it, and who answers.
    pub(crate) fn wire(self) -> (String, i32) {
        let (name, driver) = if self.kubernetes {
            ("k8s.io", ContainerDriver::Cri)
        } else {
            ("system", ContainerDriver::Containerd)
        };
        (name.to_owned(), driver.into())
    }
}

pub(crate) async fn containers(global: &Global, arguments: &Containers) -> Result<()> {
    let session = Session::new(global)?;
    let (namespace, driver) = arguments.namespace.wire();
    let request = ContainersRequest { namespace, driver };
    let ask = move |node: Node| {
        let request = request.clone();
        async move { node.machine().containers(request).await }
    };
    let replies = session.ask("Containers", ask).await?;
    let replies: Vec<_> = replies.into_iter().map(|(node, reply)| (node, reply.messages)).collect();
    say::data(listing::containers(&replies).render(arguments.output.output.into()))?;
    session.verdict()
}

pub(crate) async fn stats(global: &Global, arguments: &Stats) -> Result<()> {
    let session = Session::new(global)?;
    let (namespace, driver) = arguments.namespace.wire();
    let request = StatsRequest { namespace, driver };
    let ask = move |node: Node| {
        let request = request.clone();
        async move { node.machine().stats(request).await }
    };
    let replies = session.ask("Stats", ask).await?;
    let replies: Vec<_> = replies.into_iter().map(|(node, reply)| (node, reply.messages)).collect();
    say::data(listing::stats(&replies).render(arguments.output.output.into()))?;
    session.verdict()
}
