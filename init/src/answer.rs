//! `init answer REQUEST`: answers one request of the control socket that PID 1 has no business with, since it reads
//! files, waits for others, or goes on for as long as somebody looks.
//!
//! PID 1 has checked request and client; the request is read once more here. It ends when the answer does, or when
//! its client is gone. It changes nothing.

mod dmesg;
mod logs;
mod pods;

use self::logs::Wanted;
use crate::job::{self, Client};
use crate::parse;
use crate::stored::{self, Vault};
use crate::sys::file;
use anyhow::{Context, Result, bail};
use podium_init::config::InUse;
use podium_init::control::{self, Request};
use podium_init::paths;
use podium_init::store::Slot;
use serde_json::{Value, json};
use std::path::Path;

/// A config in its checked form, as JSON: at most the pods of the largest text.
const CONFIG_MAX: usize = 64 << 20;

/// Answers.
///
/// # Errors
/// It was started by hand. What goes wrong otherwise is told to the client.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [line] = args else { bail!("usage: init answer REQUEST, with the client on descriptor 0") };
    let mut client = Client::on_stdin()?;
    let done = job::enter().and_then(|()| {
        let request = control::parse(line.as_bytes())?;
        answer(request, &mut client)
    });
    if let Err(error) = done {
        client.fail(&error);
    }
    Ok(())
}

fn answer(request: Request, client: &mut Client) -> Result<()> {
    match request {
        Request::Logs { service, tail, follow, boots_back } => {
            logs::answer(&service, &Wanted { tail, follow, boots_back }, client)
        }
        Request::Dmesg { follow } => dmesg::answer(follow, client),
        Request::Pods => client.send(&pods::list()?),
        Request::PodStatus { watch } => pods::status(watch, client),
        Request::ConfigGet => client.send(&config_in_use()?),
        Request::ConfigHistory => client.send(&history()),
        Request::Version
        | Request::Services
        | Request::Service { .. }
        | Request::ServiceStatus { .. }
        | Request::Events { .. }
        | Request::ConfigStatus
        | Request::ConfigApply { .. }
        | Request::ConfigRollback { .. }
        | Request::Shutdown(_) => bail!("this request is not answered here"),
    }
}

/// The config in use as it was given, with where it came from.
fn config_in_use() -> Result<Value> {
    let bytes = file::read(Path::new(paths::CONFIG_IN_USE), CONFIG_MAX)?;
    let in_use: InUse = serde_json::from_slice(&bytes).context(paths::CONFIG_IN_USE)?;
    let text = parse::plain(file::read(Path::new(paths::CONFIG_TEXT), crate::load::CONFIG_MAX)?)?;
    Ok(json!({
        "ok": true, "source": in_use.source, "generation": in_use.generation, "tried": in_use.tried,
        "config": String::from_utf8_lossy(&text),
    }))
}

/// What can be gone back to.
fn history() -> Value {
    let vault = Vault::default();
    let (current, good) = (vault.generation(Slot::Current), vault.generation(Slot::Good));
    let row = |entry: stored::Entry| {
        let is = |slot: Option<u64>| slot == Some(entry.generation);
        let status = match (is(current), is(good)) {
            (true, true) => "current, good",
            (true, false) => "current",
            (false, true) => "good",
            (false, false) => "",
        };
        json!({"generation": entry.generation, "status": status, "stored": entry.stored, "source": entry.source})
    };
    json!({"ok": true, "configs": vault.history().into_iter().map(row).collect::<Vec<_>>()})
}
