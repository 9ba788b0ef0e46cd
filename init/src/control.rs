//! The control socket's language: one JSON object a line, from a line to a [`Request`] and from a fact to an answer.
//!
//! A request is `{"version":1,"request":"services"}`, some with arguments beside these. Every answer begins with a
//! line that has `ok`: `{"ok":true,…}`, or `{"ok":false,"error":"…","remedy":"…"}`. Where there is more to tell
//! (events, logs, …) more lines follow, one object each. Nothing here reads a socket or decides who may ask.

mod answers;
mod line;
mod request;
mod roles;

pub use answers::{Told, Versions, events_begin, ok, refusal, service, services, versions};
pub use roles::{Role, allowed};

use crate::config::nearest;
use crate::live::Mode;
use crate::shutdown::{Reset, Shutdown};
use line::Arguments;
use std::time::Duration;

/// The version that is spoken here; each request names it.
pub const VERSION: u64 = 1;
/// The longest request line. No request needs more than a few hundred bytes.
pub const LINE_MAX: usize = 64 << 10;
/// Root's clients at a time. People and monitors are a handful; each costs PID 1 one descriptor.
pub const CLIENTS_MAX: usize = 32;
/// How many of them may follow events for ever, so that they never shut out those who ask something.
pub const FOLLOWERS_MAX: usize = 16;
/// As [`CLIENTS_MAX`], for each role of the network API: what one role takes is missed by no other.
pub const ROLE_CLIENTS_MAX: usize = 16;
/// As [`FOLLOWERS_MAX`], for each role of the network API.
pub const ROLE_FOLLOWERS_MAX: usize = 8;
/// From a connection, or the last answer, to the end of the next request line. A program writes it at once.
pub const LINE_LIMIT: Duration = Duration::from_secs(10);
/// How long a client that is told something may take nothing of it.
pub const READ_LIMIT: Duration = Duration::from_secs(10);
/// What waits for one client to read it. The largest answer, all services with all deaths, is below 64 KiB.
pub const OUTPUT_MAX: usize = 64 << 10;
/// The longest name of a service.
pub const NAME_MAX: usize = 64;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Versions of Podium, its image, this protocol.
    Version,
    /// Every service with all that is known of it.
    Services,
    /// Start, stop or restart one.
    Service {
        /// Its id.
        name: String,
        /// What to do.
        action: Action,
    },
    /// One service with all that is known of it.
    ServiceStatus {
        /// Its id.
        name: String,
    },
    /// What a service has said.
    Logs {
        /// Its id.
        service: String,
        /// Only so many of the last lines.
        tail: Option<u64>,
        /// And what it says from now on.
        follow: bool,
        /// Only what it said in one boot: 0 is this one, 1 the one before it.
        boots_back: Option<u64>,
    },
    /// What has happened.
    Events {
        /// After this number.
        since: u64,
        /// The life of PID 1 that the number is of.
        boot: Option<String>,
        /// And what happens from now on.
        follow: bool,
    },
    /// The static pods that there should be.
    Pods,
    /// What the kubelet says of them.
    PodStatus {
        /// And again at each change.
        watch: bool,
    },
    /// The machine config in use.
    ConfigGet,
    /// Whether a change is under way.
    ConfigStatus,
    /// Take a new machine config; it follows on the connection.
    ConfigApply {
        /// How.
        mode: Mode,
        /// Only say what would change.
        dry_run: bool,
        /// Seconds that a try may take.
        timeout_s: Option<u64>,
    },
    /// The stored configs.
    ConfigHistory,
    /// Take an earlier config again.
    ConfigRollback {
        /// Which; without it the last one that was good.
        generation: Option<u64>,
    },
    /// The kernel's log.
    Dmesg {
        /// And what it says from now on.
        follow: bool,
    },
    /// `reboot`, `power off` or `reset`.
    Shutdown(Shutdown),
}

/// What to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is wanted from now on.
    Start,
    /// It alone is ended and stays down until it is wanted again.
    Stop,
    /// It alone is ended, then started.
    Restart,
}

/// Who has the means to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// PID 1, at once and from memory.
    Init,
    /// A process of its own, since it reads files or takes time.
    Answer,
    /// A process of its own that changes the node; one at a time.
    Change,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}{remedy}", if remedy.is_empty() { "" } else { "; " })]
pub struct Refusal {
    /// What is wrong.
    pub error: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

const ACTIONS: [(&str, Action); 3] =
    [("start", Action::Start), ("stop", Action::Stop), ("restart", Action::Restart)];
/// Every request with its arguments.
const REQUESTS: [(&str, &[&str]); 17] = [
    ("version", &[]),
    ("services", &[]),
    ("service", &["name", "action"]),
    ("service status", &["name"]),
    ("logs", &["service", "tail", "follow", "boots_back"]),
    ("events", &["since", "boot", "follow"]),
    ("pods", &[]),
    ("pod status", &["watch"]),
    ("config get", &[]),
    ("config status", &[]),
    ("config apply", &["mode", "dry_run", "timeout_s"]),
    ("config history", &[]),
    ("config rollback", &["generation"]),
    ("dmesg", &["follow"]),
    ("reboot", &[]),
    ("power off", &[]),
    ("reset", &["partitions", "reboot"]),
];

impl Refusal {
    /// With what to do about it.
    pub fn new(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { error: error.into(), remedy: remedy.into() }
    }
}

/// Reads one request line, without its line feed.
///
/// # Errors
/// It is no request, or one with something that is not known here: what it says is named.
pub fn parse(line: &[u8]) -> Result<Request, Refusal> {
    if line.len() > LINE_MAX {
        return Err(too_long());
    }
    let mut given = line::read(line)?;
    match given.number("version")? {
        Some(VERSION) => {}
        Some(other) => {
            return Err(Refusal::new(
                format!("version {other} is not spoken here"),
                format!("this node speaks version {VERSION}"),
            ));
        }
        None => {
            return Err(Refusal::new("the request names no version", format!("add \"version\":{VERSION}")));
        }
    }
    let name = given.text("request")?.ok_or_else(|| {
        Refusal::new("the line names no request", "such as {\"version\":1,\"request\":\"services\"}")
    })?;
    let Some((_, arguments)) = REQUESTS.iter().find(|(known, _)| *known == name) else {
        let error = format!("unknown request {:?}", shown(&name));
        return Err(Refusal::new(error, suggestion(&name, REQUESTS.iter().map(|(name, _)| *name))));
    };
    if let Some(unknown) = given.names().find(|name| !arguments.contains(name)) {
        let error = format!("request {name:?} has no argument {:?}", shown(unknown));
        let remedy = match arguments {
            [] => "it has none".to_owned(),
            known => suggestion(unknown, known.iter().copied()),
        };
        return Err(Refusal::new(error, remedy));
    }
    build(&name, &mut given)
}

/// What a line of more than [`LINE_MAX`] bytes gets.
pub fn too_long() -> Refusal {
    Refusal::new(
        format!("a request line of more than {} KiB", LINE_MAX >> 10),
        "send one JSON object and a line feed",
    )
}

/// The arguments are known by name; their values are not checked yet.
fn build(name: &str, given: &mut Arguments) -> Result<Request, Refusal> {
    Ok(match name {
        "version" => Request::Version,
        "services" => Request::Services,
        "service" => {
            let action = given.one_of("action", &ACTIONS)?;
            let action = action.ok_or_else(|| missing("action", "start, stop or restart"))?;
            Request::Service { name: service_name(given, "name")?, action }
        }
        "service status" => Request::ServiceStatus { name: service_name(given, "name")? },
        "logs" => Request::Logs {
            service: service_name(given, "service")?,
            tail: given.number("tail")?,
            follow: given.flag("follow")?,
            boots_back: given.number("boots_back")?,
        },
        "events" => Request::Events {
            since: given.number("since")?.unwrap_or(0),
            boot: given.text("boot")?,
            follow: given.flag("follow")?,
        },
        "pods" => Request::Pods,
        "pod status" => Request::PodStatus { watch: given.flag("watch")? },
        "config get" => Request::ConfigGet,
        "config status" => Request::ConfigStatus,
        "config apply" => Request::ConfigApply {
            mode: given.one_of("mode", &Mode::ALL.map(|mode| (mode.word(), mode)))?.unwrap_or_default(),
            dry_run: given.flag("dry_run")?,
            timeout_s: given.number("timeout_s")?,
        },
        "config history" => Request::ConfigHistory,
        "config rollback" => Request::ConfigRollback { generation: given.number("generation")? },
        "dmesg" => Request::Dmesg { follow: given.flag("follow")? },
        "reboot" => Request::Shutdown(Shutdown::Reboot),
        "reset" => Request::Shutdown(Shutdown::Reset(reset(given)?)),
        _ => Request::Shutdown(Shutdown::PowerOff),
    })
}

impl Action {
    /// `start`, `stop` or `restart`.
    pub fn word(self) -> &'static str {
        word(self, &ACTIONS)
    }

    /// The action of that name.
    pub fn named(name: &str) -> Option<Self> {
        named(name, &ACTIONS)
    }
}

/// Letters, digits and dashes: a name that is a path or hides a file is none.
pub fn is_service_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
}

/// What is said of a service that is not there.
pub fn no_such_service<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Refusal {
    Refusal::new(format!("there is no service {:?}", shown(name)), suggestion(name, known))
}

fn reset(given: &mut Arguments) -> Result<Reset, Refusal> {
    let labels = given.texts("partitions")?.unwrap_or_else(|| Reset::LABELS.map(str::to_owned).into());
    if let Some(unknown) = labels.iter().find(|label| !Reset::LABELS.contains(&label.as_str())) {
        let error = format!("partition {:?} is not one that may be wiped", shown(unknown));
        return Err(Refusal::new(error, suggestion(unknown, Reset::LABELS.into_iter())));
    }
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let reset = Reset::of(&labels, given.flag("reboot")?);
    if !reset.state && !reset.ephemeral {
        return Err(Refusal::new(
            "there is nothing to wipe",
            "name a partition, or leave \"partitions\" out for both",
        ));
    }
    Ok(reset)
}

fn service_name(given: &mut Arguments, argument: &str) -> Result<String, Refusal> {
    let name = given.text(argument)?.ok_or_else(|| missing(argument, "a service's name"))?;
    if is_service_name(&name) {
        return Ok(name);
    }
    let error = format!("{:?} is no service's name", shown(&name));
    Err(Refusal::new(error, "a name has small letters, digits and dashes"))
}

fn missing(argument: &str, what: &str) -> Refusal {
    Refusal::new(format!("argument {argument:?} is missing"), format!("it is {what}"))
}

/// `did you mean X?`, or all that there is.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("there is: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// What somebody sent, short enough to be said again.
fn shown(text: &str) -> Box<str> {
    crate::events::clean(text, NAME_MAX)
}

fn word<T: PartialEq + Copy>(value: T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

fn named<T: Copy>(name: &str, words: &[(&'static str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests;
