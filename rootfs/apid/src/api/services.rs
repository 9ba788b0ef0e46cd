//! Services as Talos's clients know them: PID 1's words in, theirs out.

use super::upstream::Refused;
use podium_wire::machine::{ServiceEvent, ServiceEvents, ServiceHealth, ServiceInfo};
use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// What PID 1 answers to `services`.
#[derive(Debug, Deserialize)]
pub(super) struct Services {
    pub(super) now_ms: u64,
    pub(super) services: Vec<Service>,
}

/// One service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    #[serde(rename = "service")]
    pub(super) id: String,
    wanted: String,
    state: String,
    since_ms: u64,
    pub(super) pid: Option<u32>,
    restarts: u64,
    deaths: Vec<Death>,
    /// Why it is in its state.
    reason: String,
    health: Option<Health>,
}

/// What it answers to whoever asks whether it does its work.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Health {
    state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Death {
    at_ms: u64,
    exit: Option<String>,
    reason: String,
}

impl Services {
    /// From PID 1's answer.
    ///
    /// # Errors
    /// It is none: a node without services must not be made of that.
    pub(super) fn of(answer: &Value) -> Result<Self, Refused> {
        Self::deserialize(answer).map_err(Refused::garbled)
    }

    /// When something was, by the clock as it is now.
    fn at(&self, at_ms: u64) -> Timestamp {
        let ago = Duration::from_millis(self.now_ms.saturating_sub(at_ms));
        Timestamp::from(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// All of them, as they are listed.
    pub(super) fn infos(&self) -> Vec<ServiceInfo> {
        self.services.iter().map(|service| self.info(service)).collect()
    }

    fn info(&self, service: &Service) -> ServiceInfo {
        let mut events: Vec<ServiceEvent> = service
            .deaths
            .iter()
            .map(|death| ServiceEvent {
                msg: match &death.exit {
                    Some(exit) if death.reason.is_empty() => format!("ended: {exit}"),
                    Some(exit) => format!("ended: {exit}: {}", death.reason),
                    None => death.reason.clone(),
                },
                state: "Failed".to_owned(),
                ts: Some(self.at(death.at_ms)),
            })
            .collect();
        events.push(ServiceEvent {
            msg: service.message(),
            state: service.talos_state().to_owned(),
            ts: Some(self.at(service.since_ms)),
        });
        ServiceInfo {
            id: service.id.clone(),
            state: service.talos_state().to_owned(),
            events: Some(ServiceEvents { events }),
            health: Some(ServiceHealth {
                unknown: !service.is_up() && !service.is_broken(),
                healthy: service.is_healthy(),
                last_message: service.message(),
                last_change: Some(self.at(service.since_ms)),
            }),
        }
    }
}

impl Service {
    /// Ready; a step that has ended well is, too.
    pub(super) fn is_up(&self) -> bool {
        self.state == "up"
    }

    /// It is up, and as far as anybody knows it does its work.
    pub(super) fn is_healthy(&self) -> bool {
        self.is_up() && !self.is_failing()
    }

    /// It does not answer as it should.
    fn is_failing(&self) -> bool {
        self.health.as_ref().is_some_and(|health| health.state == "failing")
    }

    /// It should be up and is in trouble.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state.as_str(), "backoff" | "failed")
    }

    /// It should be up.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted == "up"
    }

    /// In Talos's words.
    pub(super) fn talos_state(&self) -> &'static str {
        match (self.state.as_str(), self.pid, self.is_wanted()) {
            ("up", Some(_), _) => "Running",
            ("up", None, _) | ("down", _, false) => "Finished",
            ("down", _, true) => "Waiting",
            ("starting", ..) => "Starting",
            ("stopping", ..) => "Stopping",
            _ => "Failed",
        }
    }

    /// For people.
    pub(super) fn message(&self) -> String {
        let again = match self.restarts {
            0 => String::new(),
            count => format!(", started again {count} times"),
        };
        match (self.state.as_str(), self.pid) {
            ("up", Some(_)) if self.is_failing() => format!("up, {}{again}", self.reason),
            ("up", Some(pid)) => format!("up, pid {pid}{again}"),
            ("up", None) => "done".to_owned(),
            ("down", _) if self.is_wanted() && self.reason.is_empty() => "waits for what it needs".to_owned(),
            ("down", _) if self.is_wanted() => self.reason.clone(),
            ("backoff", _) => format!("is started again soon: {}{again}", self.reason),
            (state, _) => format!("{state}{again}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_state_has_talos_word() {
        let of = |state: &str, wanted: &str, pid: Option<u32>| {
            let answer = json!({"ok": true, "now_ms": 9000, "services": [{"service": "x", "state": state,
                "wanted": wanted, "pid": pid, "since_ms": 1000, "until_ms": null, "restarts": 0, "deaths": []}]});
            let info = Services::of(&answer).unwrap().infos().remove(0);
            let health = info.health.unwrap();
            (info.state, health.healthy, health.unknown)
        };
        let running = |state: &str| (state.to_owned(), true, false);
        let unknown = |state: &str| (state.to_owned(), false, true);
        assert_eq!(of("up", "up", Some(7)), running("Running"));
        assert_eq!(of("up", "up", None), running("Finished"));
        assert_eq!(of("down", "up", None), unknown("Waiting"));
        assert_eq!(of("down", "down", None), unknown("Finished"));
        assert_eq!(of("starting", "up", Some(7)), unknown("Starting"));
        assert_eq!(of("stopping", "down", Some(7)), unknown("Stopping"));
        assert_eq!(of("backoff", "up", None), ("Failed".to_owned(), false, false));
        assert_eq!(of("failed", "up", Some(7)), ("Failed".to_owned(), false, false));
    }

    #[test]
    fn one_that_is_up_and_does_not_answer_is_not_healthy() {
        let answer = json!({"ok": true, "now_ms": 9000, "services": [{"service": "kubelet", "state": "up",
            "wanted": "up", "pid": 7, "since_ms": 1000, "restarts": 1, "reason": "not healthy, 2 of 3: refused",
            "health": {"state": "failing", "failures": 2, "limit": 3, "why": "refused"},
            "deaths": [{"at_ms": 500, "exit": "signal 9, out of memory", "signal": 9, "oom": true, "reason": ""}]}]});
        let info = Services::of(&answer).unwrap().infos().remove(0);
        let health = info.health.unwrap();
        assert!(!health.healthy && !health.unknown);
        assert_eq!(health.last_message, "up, not healthy, 2 of 3: refused, started again 1 times");
        assert_eq!(info.events.unwrap().events[0].msg, "ended: signal 9, out of memory");
    }

    #[test]
    fn what_is_no_answer_is_not_a_node_without_services() {
        for garbage in [json!({"ok": true}), json!({"now_ms": 1, "services": [{"pid": "x"}]}), json!([])] {
            assert!(Services::of(&garbage).is_err(), "{garbage}");
        }
        assert!(Services::of(&json!({"ok": true, "now_ms": 1, "services": []})).is_ok());
    }
}
