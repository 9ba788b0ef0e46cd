//! What the prober has said of one life of a service, and when it is enough for a restart.

use crate::clock::Time;
use crate::events::clean;
use crate::services::Service;

/// What is kept of a failure's words, in bytes.
const WHY_MAX: usize = 120;

/// Whether a service does its work, by what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health<'a> {
    /// Nobody has asked it in this life.
    Unknown,
    /// It has answered well.
    Healthy,
    /// So many questions in a row had no good answer.
    Failing {
        /// How many.
        failures: u32,
        /// With so many it is restarted.
        limit: u32,
        /// The last one's words.
        why: &'a str,
    },
}

/// The answers of one life.
#[derive(Debug, Default)]
pub(super) struct Answers {
    was_healthy: bool,
    failures: u32,
    why: String,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing that is new.
    Nothing,
    /// A change for people to see.
    Say(String),
    /// The service has to be started anew, for this reason.
    Restart(String),
}

impl Answers {
    /// Takes an answer to a question to a service that was started at `started`; `failure`: what was wrong.
    pub(super) fn take(
        &mut self,
        service: &Service,
        started: Time,
        failure: Option<&str>,
        now: Time,
    ) -> Verdict {
        let Some(health) = &service.health else { return Verdict::Nothing };
        let Some(why) = failure else {
            let was_failing = self.was_healthy && self.failures > 0;
            *self = Self { was_healthy: true, ..Self::default() };
            return if was_failing { Verdict::Say("healthy again".to_owned()) } else { Verdict::Nothing };
        };
        self.failures = self.failures.saturating_add(1);
        self.why = clean(why, WHY_MAX).into();
        // One that never was healthy may still be on its way.
        let may_take_its_time =
            !self.was_healthy && service.ready_limit.is_none_or(|limit| now < started + limit);
        if self.failures >= health.failures && !may_take_its_time {
            Verdict::Restart(format!("unhealthy: {}", self.why))
        } else if self.failures == 1 && !may_take_its_time {
            Verdict::Say(format!("not healthy: {}", self.why))
        } else {
            Verdict::Nothing
        }
    }

    pub(super) fn health(&self, service: &Service) -> Option<Health<'_>> {
        let limit = service.health.as_ref()?.failures;
        Some(match (self.failures, self.was_healthy) {
            (0, false) => Health::Unknown,
            (0, true) => Health::Healthy,
            (failures, _) => Health::Failing { failures, limit, why: &self.why },
        })
    }
}
