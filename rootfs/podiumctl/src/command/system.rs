//! `version`, `processes`, `memory`, `mounts`.

use crate::cli::{Format, Global, Output};
use crate::client::{Node, Session};
use crate::say;
use anyhow::Result;
use clap::{Args, ValueEnum};
use podium_podiumctl::listing;
use podium_podiumctl::output;
use podium_podiumctl::table::printable;
use serde_json::json;

/// Show the versions of this program and of the nodes
#[derive(Debug, Args)]
pub(crate) struct VersionArguments {
    /// Only this program's
    #[arg(long)]
    client: bool,
    /// Only the tags
    #[arg(long)]
    short: bool,
    /// Of a node in maintenance mode: ask without a certificate (needs --nodes)
    #[arg(short, long)]
    insecure: bool,
    /// With --insecure: fingerprints of the node's certificate that are accepted
    #[arg(long, value_delimiter = ',', value_name = "FINGERPRINT", requires = "insecure")]
    cert_fingerprint: Vec<String>,
    #[command(flatten)]
    output: Output,
}

/// List processes
#[derive(Debug, Args)]
pub(crate) struct Processes {
    /// Which come first
    #[arg(short, long, value_enum, default_value_t = Sort::Rss)]
    sort: Sort,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Those with the most memory
    Rss,
    /// Those with the most CPU time
    Cpu,
}

/// Show memory use in megabytes
#[derive(Debug, Args)]
pub(crate) struct Memory {
    /// All that the kernel tells, in kB
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    output: Output,
}

/// List mounts with their sizes
#[derive(Debug, Args)]
pub(crate) struct Mounts {
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn version(global: &Global, arguments: &VersionArguments) -> Result<()> {
    let tag = concat!("v", env!("CARGO_PKG_VERSION"));
    let platform = format!("{}/{}", std::env::consts::OS, architecture());
    let table = arguments.output.output == Format::Table;
    if table && arguments.short {
        say::data(format!("Client {tag}\n"))?;
    } else if table {
        say::data(format!("Client:\n\tTag:         {tag}\n\tOS/Arch:     {platform}\n"))?;
    }
    let mut items = vec![json!({"client": {"tag": tag, "platform": platform}})];
    let done = if arguments.client { Ok(()) } else { servers(global, arguments, &mut items).await };
    // What is known is shown, whatever the nodes say.
    print_items(arguments.output, &items)?;
    done
}

async fn servers(
    global: &Global,
    arguments: &VersionArguments,
    items: &mut Vec<serde_json::Value>,
) -> Result<()> {
    let table = arguments.output.output == Format::Table;
    if table && !arguments.short {
        say::data("Server:\n")?;
    }
    let session = if arguments.insecure {
        Session::insecure(global, &arguments.cert_fingerprint)?
    } else {
        Session::new(global)?
    };
    let replies = session.ask("Version", |node: Node| async move { node.machine().version(()).await });
    for (node, reply) in replies.await? {
        for message in reply.messages {
            let (text, item) = listing::version(&node, &message);
            if table && arguments.short {
                say::data(format!(
                    "Server {} {}\n",
                    printable(item["node"].as_str().unwrap_or_default()),
                    printable(item["tag"].as_str().unwrap_or_default())
                ))?;
            } else if table {
                say::data(text)?;
            }
            items.push(json!({"server": item}));
        }
    }
    session.verdict()
}

/// As the nodes call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn print_items(output: Output, items: &[serde_json::Value]) -> Result<()> {
    match output.output {
        Format::Table => Ok(()),
        Format::Yaml => say::data(items.iter().map(output::yaml).collect::<Vec<_>>().join("---\n")),
        Format::Json => say::data(items.iter().map(output::json).collect::<String>()),
    }
}

pub(crate) async fn processes(global: &Global, arguments: &Processes) -> Result<()> {
    let session = Session::new(global)?;
    let replies = session.ask("Processes", |node: Node| async move { node.machine().processes(()).await });
    let replies: Vec<_> = replies.await?.into_iter().map(|(node, reply)| (node, reply.messages)).collect();
    let listing = listing::processes(&replies, arguments.sort == Sort::Cpu);
    say::data(listing.render(arguments.output.output.into()))?;
    session.verdict()
}

pub(crate) async fn memory(global: &Global, arguments: &Memory) -> Result<()> {
    let session = Session::new(global)?;
    let replies = session.ask("Memory", |node: Node| async move { node.machine().memory(()).await });
    let replies: Vec<_> = replies.await?.into_iter().map(|(node, reply)| (node, reply.messages)).collect();
    if arguments.verbose && arguments.output.output == Format::Table {
        for (asked, messages) in &replies {
            for message in messages {
                let node = listing::node_name(message.metadata.as_ref(), asked);
                let lines = listing::meminfo(&message.meminfo.unwrap_or_default()).into_iter();
                let line = |(name, value, kb)| format!("{name}: {value}{}\n", if kb { " kB" } else { "" });
                say::data(format!("NODE: {}\n{}", printable(node), lines.map(line).collect::<String>()))?;
            }
        }
    } else {
        say::data(listing::memory(&replies).render(arguments.output.output.into()))?;
    }
    session.verdict()
}

pub(crate) async fn mounts(global: &Global, arguments: &Mounts) -> Result<()> {
    let session = Session::new(global)?;
    let replies = session.ask("Mounts", |node: Node| async move { node.machine().mounts(()).await });
    let replies: Vec<_> = replies.await?.into_iter().map(|(node, reply)| (node, reply.messages)).collect();
    say::data(listing::mounts(&replies).render(arguments.output.output.into()))?;
    session.verdict()
}
