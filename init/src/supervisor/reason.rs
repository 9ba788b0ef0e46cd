//! Why a service is in its state, in words for people.

use super::{Health, Id, Record, State, Supervisor, Wanted};

impl Supervisor {
    /// Why the service is what it is; empty when there is nothing to say of it.
    pub fn reason(&self, id: Id) -> String {
        let Some(record) = self.records.get(id.0) else { return String::new() };
        match record.state {
            State::Down if record.wanted == Wanted::Down => "not wanted".to_owned(),
            State::Down => self.waits_for(record),
            State::Starting { .. } | State::Backoff { .. } => record.crash(),
            State::Up => match record.status().health {
                Some(Health::Failing { failures, limit, why }) => {
                    format!("not healthy, {failures} of {limit}: {why}")
                }
                Some(Health::Unknown | Health::Healthy) | None if record.pid.is_none() => "done".to_owned(),
                Some(Health::Unknown | Health::Healthy) | None => String::new(),
            },
            State::Stopping { .. } => record.why_stopping(),
            State::Failed => "SIGKILL did not end it".to_owned(),
        }
    }

    fn waits_for(&self, record: &Record) -> String {
        let missing = record.service.needs.iter().filter(|need| !self.is_up(&need.service));
        let missing: Vec<&str> = missing.map(|need| need.service.as_str()).collect();
        if missing.is_empty() { String::new() } else { format!("waits for {}", missing.join(", ")) }
    }
}
