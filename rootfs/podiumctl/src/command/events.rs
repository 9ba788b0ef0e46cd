//! `events`: what happens on the nodes, as they push it.

use crate::cli::{Format, Global, Output};
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::say;
use anyhow::Result;
use clap::Args;
use podium_podiumctl::table::Table;
use podium_podiumctl::{listing, output, times};
use podium_wire::machine::EventsRequest;
use std::time::Duration;

/// Show events of nodes as they happen
///
/// Without a flag it shows what happens from now on, until it is stopped by Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Begin with so many past events (-1: all that the node still has)
    #[arg(
        long,
        value_name = "EVENTS",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    tail: i32,
    /// Begin with those of the last time, e.g. 10m
    #[arg(long, value_name = "DURATION", value_parser = times::parse)]
    duration: Option<Duration>,
    /// Begin with those after the event with this id
    #[arg(long, value_name = "ID")]
    since: Option<String>,
    /// Only those of one action: the id that reboot, shutdown and reset tell
    #[arg(long, value_name = "ID")]
    actor_id: Option<String>,
    /// Go on as things happen, which it does anyway
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<()> {
    let session = Session::new(global)?;
    let seconds = arguments.duration.map(|duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
    let request = EventsRequest {
        tail_events: arguments.tail,
        tail_id: arguments.since.unwrap_or_default(),
        tail_seconds: seconds.unwrap_or_default(),
        with_actor_id: arguments.actor_id.unwrap_or_default(),
    };
    let open = move |node: Node| {
        let request = request.clone();
        async move { node.machine().events(request).await }
    };
    let mut table = Table::new(&["NODE", "ID", "EVENT", "ACTOR", "SOURCE", "MESSAGE"]);
    let mut first = true;
    session
        .follow("Events", open, |node, event| {
            let Some(row) = listing::event(node, &event) else { return Ok(()) };
            say::data(match arguments.output.output {
                Format::Table => table.render(&[row.cells]),
                Format::Json => output::json(&row.item),
                Format::Yaml => {
                    let dashes = if std::mem::take(&mut first) { "" } else { "---\n" };
                    format!("{dashes}{}", output::yaml(&row.item))
                }
            })
        })
        .await?;
    Err(Fault::new("the node has ended the stream of events")
        .remedy("it may be going down: try again")
        .into())
}
