//! `dashboard`: the words of it; the terminal UI is in `dashboard/`.

use crate::cli::Global;
use crate::client::Session;
use crate::dashboard;
use anyhow::Result;
use clap::Args;

/// Watch a node in the terminal: pods, services, logs, CPU and memory
///
/// Keys: arrows or j k move, Tab changes between pods and services, / filters, Enter or l shows the logs, Esc or q goes
/// back and ends, ? helps.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) async fn run(global: &Global, _: &Arguments) -> Result<()> {
    let session = Session::new(global)?;
    let node = session.only().await?;
    dashboard::run(node).await
}
