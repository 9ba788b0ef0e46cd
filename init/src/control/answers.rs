//! Answers as lines, each with its line feed: what PID 1 knows, as JSON.

use super::{Refusal, VERSION};
use crate::clock::Time;
use crate::events::{Event, Gap, clean, millis};
use crate::supervisor::{Exit, Health, State, Status, Wanted};
use crate::usage::Usage;
use serde_json::{Value, json};

/// What is told of a death and of a state: fourteen services with ten deaths each stay below [`super::OUTPUT_MAX`], also when every
/// character is one that JSON doubles.
const REASON_MAX: usize = 120;

/// What is told of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of Podium.
    pub podium: String,
    /// Of the running kernel.
    pub kernel: String,
    /// Hash over everything that went into the image.
    pub build_id: String,
    /// Names this life of PID 1: event numbers are of one life.
    pub boot: String,
}

/// One service as an answer tells it.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// What the supervisor knows.
    pub status: Status<'a>,
    /// Why it is so; may be empty.
    pub reason: String,
    /// What the kernel counts for it.
    pub usage: Usage,
}

/// `{"ok":true}`.
pub fn ok() -> String {
    line(&json!({"ok": true}))
}

/// `{"ok":false,…}`.
pub fn refusal(refusal: &Refusal) -> String {
    let mut answer = json!({"ok": false, "error": refusal.error});
    if !refusal.remedy.is_empty()
        && let Some(object) = answer.as_object_mut()
    {
        object.insert("remedy".to_owned(), refusal.remedy.clone().into());
    }
    line(&answer)
}

/// The answer to `version`.
pub fn versions(versions: &Versions) -> String {
    line(&json!({
        "ok": true,
        "podium": versions.podium,
        "protocol": VERSION,
        "kernel": versions.kernel,
        "build_id": versions.build_id,
        "boot": versions.boot,
    }))
}

/// The answer to `services`.
pub fn services<'a>(told: impl Iterator<Item = Told<'a>>, now: Time) -> String {
    let services: Vec<Value> = told.map(|told| describe(&told)).collect();
    line(&json!({"ok": true, "now_ms": millis(now), "services": services}))
}

/// The answer to `service status`, and to `service`: what it is right after the request was taken.
pub fn service(told: &Told<'_>, now: Time) -> String {
    line(&json!({"ok": true, "now_ms": millis(now), "service": describe(told)}))
}

/// The first line of the answer to `events`. `lost`: what was asked for and is not here any more. `new_boot`: the
/// numbers that the client knows are of an earlier life, so it gets all events of this one.
pub fn events_begin(boot: &str, last: u64, lost: Option<Gap>, new_boot: bool, now: Time) -> String {
    let mut answer = json!({"ok": true, "boot": boot, "last": last, "now_ms": millis(now)});
    if let Some(object) = answer.as_object_mut() {
        if let Some(lost) = lost {
            object.insert("gap".to_owned(), json!(lost));
        }
        if new_boot {
            object.insert("new_boot".to_owned(), true.into());
        }
    }
    line(&answer)
}

impl Event {
    /// As a line.
    pub fn to_line(&self) -> String {
        // Numbers and texts always have a JSON form.
        serde_json::to_string(self).map(|json| json + "\n").unwrap_or_default()
    }
}

fn describe(told: &Told<'_>) -> Value {
    let status = &told.status;
    let deaths: Vec<Value> = status
        .deaths
        .iter()
        .map(|death| {
            json!({
                "at_ms": millis(death.at),
                "exit": death.exit.map(|exit| exit.to_string()),
                "code": death.exit.and_then(Exit::code),
                "signal": death.exit.and_then(Exit::signal),
                "oom": death.exit == Some(Exit::OomKilled),
                "reason": clean(&death.reason, REASON_MAX),
            })
        })
        .collect();
    let until = match status.state {
        State::Starting { until } => until,
        State::Stopping { until, .. } | State::Backoff { until } => Some(until),
        State::Down | State::Up | State::Failed => None,
    };
    json!({
        "service": status.service,
        "wanted": match status.wanted { Wanted::Up => "up", Wanted::Down => "down" },
        "state": status.state.word(),
        "reason": clean(&told.reason, REASON_MAX),
        "health": status.health.map(|health| match health {
            Health::Unknown => json!({"state": "unknown"}),
            Health::Healthy => json!({"state": "healthy"}),
            Health::Failing { failures, limit, why } => {
                json!({"state": "failing", "failures": failures, "limit": limit, "why": clean(why, REASON_MAX)})
            }
        }),
        "memory_bytes": told.usage.memory,
        "cpu_us": told.usage.cpu_us,
        "since_ms": millis(status.since),
        "until_ms": until.map(millis),
        "pid": status.pid,
        "restarts": status.restarts,
        "deaths": deaths,
    })
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
