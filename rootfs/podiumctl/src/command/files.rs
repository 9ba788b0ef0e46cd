//! `list`, `usage`, `read`: files of a node.

use super::logs::LINE_MAX;
use super::now;
use crate::cli::{Format, Global, Output};
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::say;
use anyhow::Result;
use clap::{Args, ValueEnum};
use podium_podiumctl::listing;
use podium_podiumctl::output::{self, Listing};
use podium_podiumctl::table::{printable, printable_lines};
use podium_wire::machine::{DiskUsageRequest, ListRequest, ReadRequest, list_request};
use serde_json::Value;
use std::io::IsTerminal;

/// List files of a folder
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Folder
    #[arg(default_value = "/")]
    path: String,
    /// Mode, owner, size and time of each
    #[arg(short, long)]
    long: bool,
    /// Sizes with units
    #[arg(short = 'H', long)]
    humanize: bool,
    /// And what is in folders below
    #[arg(short, long)]
    recurse: bool,
    /// How deep (0: without end)
    #[arg(short, long, default_value_t = 0, value_name = "LEVELS", requires = "recurse")]
    depth: i32,
    /// Only files of these types
    #[arg(short, long, value_enum, value_delimiter = ',', value_name = "TYPE")]
    r#type: Vec<Type>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    /// Regular files
    F,
    /// Folders
    D,
    /// Symbolic links
    L,
}

/// Show how much space files and folders take, in bytes
#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// Files and folders
    #[arg(default_value = "/")]
    paths: Vec<String>,
    /// Files too, not folders alone
    #[arg(short, long)]
    all: bool,
    /// Sizes with units
    #[arg(short = 'H', long)]
    humanize: bool,
    /// Leave out what is smaller than this, or, when negative, what is larger
    #[arg(short, long, default_value_t = 0, value_name = "BYTES", allow_negative_numbers = true)]
    threshold: i64,
    /// How deep
    #[arg(short, long, default_value_t = 0, value_name = "LEVELS")]
    depth: i32,
    #[command(flatten)]
    output: Output,
}

/// Print a file of a node (os:admin)
///
/// Byte by byte, but for control characters on a terminal.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// Its absolute path
    path: String,
}

pub(crate) async fn list(global: &Global, arguments: List) -> Result<()> {
    let session = Session::new(global)?;
    let wanted = |kind: &Type| match kind {
        Type::F => list_request::Type::Regular.into(),
        Type::D => list_request::Type::Directory.into(),
        Type::L => list_request::Type::Symlink.into(),
    };
    let request = ListRequest {
        root: arguments.path,
        recurse: arguments.recurse,
        recursion_depth: arguments.depth,
        types: arguments.r#type.iter().map(wanted).collect(),
    };
    let open = move |node: Node| {
        let request = request.clone();
        async move { node.machine().list(request).await }
    };
    let header: &[&'static str] = match (arguments.long, session.is_plural()) {
        (true, _) => &["NODE", "MODE", "UID", "GID", "SIZE(B)", "LASTMOD", "NAME"],
        (false, true) => &["NODE", "NAME"],
        (false, false) => &["NAME"],
    };
    let names_alone = !arguments.long && !session.is_plural();
    let mut listing = Listing::new(header);
    let now = now();
    let done = session
        .follow("List", open, |node, one| {
            let said = one.metadata.as_ref().map(|metadata| metadata.error.as_str()).unwrap_or_default();
            if let Some(error) = [said, &one.error].into_iter().find(|error| !error.is_empty()) {
                session.fail(&Fault::new(format!("{node}: {}: {error}", one.name)));
                return Ok(());
            }
            let (row, item) = listing::files(node, &one, arguments.long, arguments.humanize, now);
            add(&mut listing, row, item, names_alone);
            Ok(())
        })
        .await;
    // Names alone are for other programs: no header.
    if names_alone && arguments.output.output == Format::Table {
        let names = listing.rows.iter().flatten().map(|name| format!("{}\n", printable(name)));
        say::data(names.collect::<String>())?;
    } else {
        say::data(listing.render(arguments.output.output.into()))?;
    }
    done
}

pub(crate) async fn usage(global: &Global, arguments: Usage) -> Result<()> {
    let session = Session::new(global)?;
    let several = arguments.paths.len() > 1;
    let request = DiskUsageRequest {
        // The paths themselves are the first level.
        recursion_depth: arguments.depth.saturating_add(1),
        all: arguments.all,
        threshold: arguments.threshold,
        paths: arguments.paths,
    };
    let open = move |node: Node| {
        let request = request.clone();
        async move { node.machine().disk_usage(request).await }
    };
    let plural = session.is_plural();
    let mut listing = Listing::new(if plural { &["NODE", "SIZE", "NAME"] } else { &["SIZE", "NAME"] });
    let done = session
        .follow("DiskUsage", open, |node, one| {
            if !one.error.is_empty() {
                session.fail(&Fault::new(format!("{node}: {}: {}", one.name, one.error)));
                return Ok(());
            }
            let (row, item) = listing::disk_usage(node, &one, arguments.humanize, several);
            add(&mut listing, row, item, !plural);
            Ok(())
        })
        .await;
    say::data(listing.render(output::Format::from(arguments.output.output)))?;
    done
}

/// Adds a row, without its node where there is but one.
fn add(listing: &mut Listing, mut row: Vec<String>, item: Value, without_node: bool) {
    if without_node {
        row.remove(0);
    }
    listing.push(row, item);
}

pub(crate) async fn read(global: &Global, arguments: &Read) -> Result<()> {
    let session = Session::new(global)?;
    let node = session.only().await?;
    let request = ReadRequest { path: arguments.path.clone() };
    let fault = |status: tonic::Status| node.fault("Read", &status);
    let mut stream = node.machine().read(request).await.map_err(fault)?.into_inner();
    let terminal = std::io::stdout().is_terminal();
    // Begin of a line whose end has not come, for a terminal.
    let mut open = Vec::new();
    while let Some(data) = stream.message().await.map_err(fault)? {
        if let Some(error) = data.metadata.map(|metadata| metadata.error).filter(|error| !error.is_empty()) {
            return Err(Fault::new(format!("{}: {error}", node.name)).into());
        }
        if !terminal {
            say::data(&data.bytes)?;
            continue;
        }
        open.extend_from_slice(&data.bytes);
        let end = match open.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if open.len() > LINE_MAX => open.len(),
            None => continue,
        };
        let rest = open.split_off(end);
        let whole = std::mem::replace(&mut open, rest);
        say::data(printable_lines(&String::from_utf8_lossy(&whole)))?;
    }
    say::data(printable_lines(&String::from_utf8_lossy(&open)))
}
