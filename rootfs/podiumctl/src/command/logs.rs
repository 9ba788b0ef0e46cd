//! `logs` and `dmesg`: a node's chunks of bytes as lines, each with the node's name in front.

use crate::cli::{Global, Namespace};
use crate::client::{Node, Session};
use crate::fault::Fault;
use crate::say;
use anyhow::Result;
use clap::Args;
use podium_podiumctl::listing::node_name;
use podium_podiumctl::table::printable;
use podium_wire::common::Data;
use podium_wire::machine::{DmesgRequest, LogsRequest};
use std::collections::HashMap;
use std::io::IsTerminal;

/// A line that is longer is printed in parts: what never ends must not fill the memory.
pub(super) const LINE_MAX: usize = 1 << 20;

/// Show the logs of a service, or of a container with -k
///
///   podiumctl logs kubelet -f --tail 20
///   podiumctl logs -k default/nginx-node-1:nginx
///
/// ID is as `services` and `containers -k` show it; podiumctl get services and podiumctl containers -k list them.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Logs {
    /// Service, or NAMESPACE/POD:CONTAINER[:CONTAINER-ID] with -k
    id: String,
    #[command(flatten)]
    namespace: Namespace,
    /// Go on with what is said from now on
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines (without it: all)
    #[arg(long, value_name = "LINES", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    tail: i32,
}

/// Show the kernel's log
#[derive(Debug, Args)]
pub(crate) struct Dmesg {
    /// Go on with what is said from now on
    #[arg(short, long)]
    follow: bool,
    /// Only what is said from now on (with --follow)
    #[arg(long)]
    tail: bool,
}

pub(crate) async fn logs(global: &Global, arguments: Logs) -> Result<()> {
    let session = Session::new(global)?;
    let (namespace, driver) = arguments.namespace.wire();
    let request = LogsRequest {
        namespace,
        id: arguments.id,
        driver,
        follow: arguments.follow,
        tail_lines: arguments.tail,
    };
    let open = move |node: Node| {
        let request = request.clone();
        async move { node.machine().logs(request).await }
    };
    let mut lines = Lines::new();
    let done = session.follow("Logs", open, |node, data| lines.add(&session, node, &data)).await;
    lines.end()?;
    done
}

pub(crate) async fn dmesg(global: &Global, arguments: &Dmesg) -> Result<()> {
    let session = Session::new(global)?;
    let request = DmesgRequest { follow: arguments.follow, tail: arguments.tail };
    let open = move |node: Node| async move { node.machine().dmesg(request).await };
    let mut lines = Lines::new();
    let done = session.follow("Dmesg", open, |node, data| lines.add(&session, node, &data)).await;
    lines.end()?;
    done
}

/// Chunks of several nodes, each as whole lines.
struct Lines {
    /// Begin of a line whose end has not come.
    open: HashMap<String, Vec<u8>>,
    terminal: bool,
}

impl Lines {
    fn new() -> Self {
        Self { open: HashMap::new(), terminal: std::io::stdout().is_terminal() }
    }

    fn add(&mut self, session: &Session, node: &str, data: &Data) -> Result<()> {
        if let Some(error) = data.metadata.as_ref().map(|metadata| &metadata.error).filter(|e| !e.is_empty())
        {
            session.fail(&Fault::new(format!("{node}: {error}")));
        }
        let node = node_name(data.metadata.as_ref(), node);
        let open = self.open.entry(node.to_owned()).or_default();
        open.extend_from_slice(&data.bytes);
        let end = match open.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if open.len() > LINE_MAX => open.len(),
            None => return Ok(()),
        };
        let rest = open.split_off(end);
        let whole = std::mem::replace(open, rest);
        say::data(prefixed(node, &whole, self.terminal))
    }

    /// Lines that end with the stream.
    fn end(&mut self) -> Result<()> {
        for (node, open) in self.open.drain().filter(|(_, open)| !open.is_empty()) {
            say::data(prefixed(&node, &open, self.terminal))?;
        }
        Ok(())
    }
}

/// Lines with the node's name. A terminal gets no control characters but tabs and colours: a log may hold anything.
fn prefixed(node: &str, bytes: &[u8], terminal: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    // The node has named itself.
    let node = printable(node);
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for line in bytes.split(|byte| *byte == b'\n') {
        out.extend_from_slice(node.as_bytes());
        out.extend_from_slice(b": ");
        if terminal {
            out.extend_from_slice(harmless(&String::from_utf8_lossy(line)).as_bytes());
        } else {
            out.extend_from_slice(line);
        }
        out.push(b'\n');
    }
    out
}

fn harmless(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(char::is_control) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let colour = rest.strip_prefix("\u{1b}[").and_then(|codes| {
            let end = codes.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            codes[end..].starts_with('m').then_some(end + 3)
        });
        let length = match (colour, rest.chars().next()) {
            (Some(length), _) => {
                out.push_str(&rest[..length]);
                length
            }
            (None, Some(character)) => {
                match character {
                    '\t' => out.push('\t'),
                    // Programs that write for Windows.
                    '\r' if rest.len() == 1 => {}
                    other => out.extend(other.escape_default()),
                }
                character.len_utf8()
            }
            (None, None) => break,
        };
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_node() {
        assert_eq!(prefixed("n", b"a\n\nb\n", false), b"n: a\nn: \nn: b\n");
        assert_eq!(prefixed("n", b"a\x1b[2Jb", false), b"n: a\x1b[2Jb\n");
        assert_eq!(prefixed("n\u{1b}c", b"a", true), b"n\\u{1b}c: a\n");
    }

    #[test]
    fn a_terminal_gets_colours_and_nothing_that_moves_it() {
        assert_eq!(harmless("\u{1b}[1;31mred\u{1b}[0m\tx\r"), "\u{1b}[1;31mred\u{1b}[0m\tx");
        assert_eq!(harmless("a\u{1b}[2Jb\u{7}c\rd"), "a\\u{1b}[2Jb\\u{7}c\\rd");
        assert_eq!(harmless("\u{1b}[31"), "\\u{1b}[31");
    }
}
