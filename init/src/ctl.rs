//! `init ctl`: asks this node's PID 1 by its control socket and prints the answer, as a table or as it came.
//!
//! For a person inside the node: on its console, in a pod that sees `/run/podium`, in a container by exec. What it
//! prints of an answer is in `show.rs`, what its words mean in `arguments.rs`. An error is one line with its remedy on
//! stderr and exit code 1.

mod arguments;
mod connection;
mod services;
mod show;
mod table;

use anyhow::{Context, Result, bail};
use arguments::{Command, Invocation};
use connection::{Connection, Line};
use podium_init::control::{Refusal, Request};
use serde_json::Value;
use show::Printer;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};

/// The largest config with room for compression that makes it larger; PID 1's side knows the exact bound.
const CONFIG_MAX: u64 = 8 << 20;

const HELP: &str = "\
init ctl: asks this node, by PID 1's control socket. Only root may.

  init ctl version                        versions of Podium, kernel and image
  init ctl services                       every service: state, health, since when, restarts, how it last ended
  init ctl service NAME                   one service: also why, its last ends, memory, time of processors
  init ctl service start|stop|restart NAME
                                          acts on one service; those that need it stay as they are
  init ctl logs NAME [-f] [--tail N]      what a service has said; -f: and what it says from now on
                [-b -1]                   what it said in the boot before this one; -b 0: in this one
  init ctl events [-f] [--since N] [--boot ID]
                                          what has happened since boot, or after event number N
  init ctl pods                           the static pods that there should be, and what is wrong with them
  init ctl pods status [-w]               what the kubelet says of them; -w: again at each change
  init ctl config get                     the machine config in use
  init ctl config status                  whether a change is under way
  init ctl config apply FILE|- [--mode auto|no-reboot|staged|reboot|try] [--dry-run] [--timeout SECONDS]
                                          takes a new config; --dry-run only says what would change
  init ctl config history                 the configs that are kept
  init ctl config rollback [GENERATION]   takes an earlier config again
  init ctl dmesg [-f]                     the kernel's log
  init ctl reboot | poweroff              stops the pods, then the services, then the machine
  init ctl reset [--partitions STATE,EPHEMERAL] [--reboot]
                                          as poweroff, and forgets what is on both data partitions, or on the one named

  -o json         one JSON object a line, as the node said it (default: table)
  --socket PATH   another socket than /run/podium/init.sock
";

/// Asks and prints.
///
/// # Errors
/// Words that mean nothing, no node to ask, or its refusal.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let Invocation { socket, json, command } = arguments::parse(args)?;
    let mut out = std::io::stdout().lock();
    let done = match command {
        Command::Help => out.write_all(HELP.as_bytes()).map_err(Into::into),
        Command::Ask(request) => ask(&request, &socket, Printer::new(&mut out, json)),
        Command::Apply { request, file } => apply(&request, &file, &socket, Printer::new(&mut out, json)),
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        // Who has closed our output wants no more of it: `init ctl events | head`.
        Err(error) if says_closed(&error) => Ok(()),
        done => done,
    }
}

/// One request, one answer of a line or more.
fn ask(request: &Request, socket: &str, mut printer: Printer<'_>) -> Result<()> {
    let mut node = Connection::open(socket)?;
    node.send(request.to_line().as_bytes())?;
    let first = node.first()?;
    if request.is_endless() {
        printer.begin(request, &first)?;
        while let Some(line) = node.next()? {
            printer.go_on(request, &line)?;
        }
        bail!("the node has ended the answer: it goes down, or this end did not read for too long")
    }
    let mut lines = Vec::new();
    while has_more(request)
        && let Some(line) = node.next()?
    {
        lines.push(line);
    }
    // Only now: who reads our output may take a rest, and the node would not wait for it.
    drop(node);
    printer.begin(request, &first)?;
    lines.iter().try_for_each(|line| printer.go_on(request, line))?;
    match request {
        Request::ConfigRollback { .. } => is_done(lines.last().unwrap_or(&first)),
        _ => Ok(()),
    }
}

/// The config is read before anything is asked, and sent once the node wants it.
fn apply(request: &Request, file: &str, socket: &str, mut printer: Printer<'_>) -> Result<()> {
    let config = read_config(file)?;
    let mut node = Connection::open(socket)?;
    node.send(request.to_line().as_bytes())?;
    let first = node.first()?;
    if first.value.get("send") == Some(&Value::Bool(true)) {
        node.send_last(&config)?;
    } else {
        printer.go_on(request, &first)?;
    }
    let mut last = first;
    while let Some(line) = node.next()? {
        printer.go_on(request, &line)?;
        last = line;
    }
    is_done(&last)
}

/// A change that was done says so in its last line; one that was killed says nothing.
fn is_done(last: &Line) -> Result<()> {
    if last.value.get("result").is_some() {
        return Ok(());
    }
    Err(Refusal::new(
        "the node has ended the change without a result",
        "`init ctl config status` and `init ctl config history` tell what is in force",
    )
    .into())
}

/// More lines follow the first one.
fn has_more(request: &Request) -> bool {
    match request {
        Request::Logs { .. }
        | Request::Events { .. }
        | Request::PodStatus { .. }
        | Request::Dmesg { .. }
        | Request::ConfigApply { .. }
        | Request::ConfigRollback { .. } => true,
        Request::Version
        | Request::Services
        | Request::Service { .. }
        | Request::ServiceStatus { .. }
        | Request::Pods
        | Request::ConfigGet
        | Request::ConfigStatus
        | Request::ConfigHistory
        | Request::Shutdown(_) => false,
    }
}

fn read_config(file: &str) -> Result<Vec<u8>> {
    let mut config = Vec::new();
    let most = CONFIG_MAX + 1;
    match file {
        "-" => std::io::stdin().lock().take(most).read_to_end(&mut config).context("read standard input")?,
        file => File::open(file)
            .and_then(|file| file.take(most).read_to_end(&mut config))
            .with_context(|| format!("read {file}"))?,
    };
    if config.len() as u64 >= most {
        bail!("{file} is larger than {} MiB: is it a machine config?", CONFIG_MAX >> 20);
    }
    Ok(config)
}

fn says_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_without_a_result_was_not_done() {
        let line = |text: &str| Line { text: text.to_owned(), value: serde_json::from_str(text).unwrap() };
        assert!(is_done(&line(r#"{"ok":true,"result":"dry run"}"#)).is_ok());
        for text in [r#"{"ok":true,"send":true}"#, r#"{"change":"machine.env","needs":"at once"}"#] {
            assert!(is_done(&line(text)).unwrap_err().to_string().contains("without a result"), "{text}");
        }
    }
}
