//! `apid probe`: asks the services that are up whether they still do their work, and tells PID 1 what changes.
//!
//! What to ask is in the services' descriptions, which PID 1 writes. PID 1's events say who is up, so that nobody is
//! asked who is not, and what one has answered in an earlier life is forgotten. A question that hangs holds up no
//! other. What follows from an answer decides PID 1: this process restarts nothing.

mod events;
mod question;

use crate::files;
use crate::places::Places;
use crate::say;
use anyhow::{Context, Result};
use events::Seen;
use podium_init::control::is_service_name;
use podium_init::paths;
use podium_init::services::{Health, Service};
use question::Answer;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A description is some KiB.
const DESCRIPTION_MAX: u64 = 1 << 20;
/// More services than any node has: what lies in the folder besides is not looked at.
const SERVICES_MAX: usize = 64;
/// Events that wait; PID 1 keeps the rest for us.
const SEEN_WAITING: usize = 64;

/// One service that is asked.
#[derive(Debug)]
struct Asked {
    health: Health,
    /// As PID 1 says, or, while that is not known, as it may be: PID 1 has no use for the answer of one that is not.
    up: bool,
    /// Counts what is known of its lives.
    life: u64,
    /// PID 1 knows that it is healthy.
    told_healthy: bool,
    next: Instant,
    is_under_way: bool,
    /// Nothing was seen of it since it began: that this goes on is no new beginning, or answers that take their time
    /// would never count.
    is_unseen: bool,
}

/// What a question brought.
struct Told {
    service: String,
    life: u64,
    /// Since boot, as PID 1 counts.
    asked: Duration,
    answer: Answer,
}

/// Asks until it is ended.
///
/// # Errors
/// None in a node: without descriptions there is nobody to ask.
pub(crate) async fn run(places: Places) -> Result<()> {
    let mut asked = all(&places);
    let (sender, mut seen) = mpsc::channel(SEEN_WAITING);
    tokio::spawn(events::follow(places.at(paths::CONTROL_SOCKET), sender));
    let mut questions = JoinSet::new();
    say::ready();
    loop {
        let due = asked.values().filter(|one| one.up && !one.is_under_way).map(|one| one.next).min();
        tokio::select! {
            seen = seen.recv() => see(&mut asked, &places, seen.context("the events have ended")?),
            Some(told) = questions.join_next(), if !questions.is_empty() => take(&mut asked, told?),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                ask(&mut asked, &mut questions, &places);
            }
        }
    }
}

/// Who is to be asked, by the descriptions that are there now.
fn all(places: &Places) -> BTreeMap<String, Asked> {
    let folder = places.at(paths::SERVICES);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned())
            .filter(|name| is_service_name(name))
    });
    let known = names.take(SERVICES_MAX).filter_map(|name| Some((health(places, &name)?, name)));
    known.map(|(health, name)| (name, Asked::new(health))).collect()
}

/// What its description says; `None`: it is not to be asked.
fn health(places: &Places, service: &str) -> Option<Health> {
    let path = places.at(paths::SERVICES).join(format!("{service}.json"));
    let read = || -> Result<Service> { Ok(serde_json::from_slice(&files::read(&path, DESCRIPTION_MAX)?)?) };
    match read() {
        Ok(service) => service.health,
        Err(error) => {
            say::line(&format!("{service} is not asked: {error:#}"));
            None
        }
    }
}

fn see(asked: &mut BTreeMap<String, Asked>, places: &Places, seen: Seen) {
    match seen {
        // What was missed may have been the end of any of them.
        Seen::Nothing => asked.values_mut().filter(|one| !one.is_unseen).for_each(|one| {
            one.begin();
            one.is_unseen = true;
        }),
        Seen::Up(service) => {
            // The config may have changed meanwhile.
            let Some(health) = health(places, &service) else {
                asked.remove(&service);
                return;
            };
            let has_room = asked.len() < SERVICES_MAX;
            match asked.get_mut(&service) {
                Some(one) => {
                    one.health = health;
                    one.begin();
                    one.is_unseen = false;
                }
                None if has_room => drop(asked.insert(service, Asked::new(health))),
                None => {}
            }
        }
        Seen::NotUp(service) => {
            if let Some(one) = asked.get_mut(&service) {
                one.up = false;
                one.is_unseen = false;
            }
        }
    }
}

fn ask(asked: &mut BTreeMap<String, Asked>, questions: &mut JoinSet<Told>, places: &Places) {
    let now = Instant::now();
    for (service, one) in asked.iter_mut().filter(|(_, one)| one.up && !one.is_under_way && one.next <= now) {
        one.is_under_way = true;
        one.next = now + one.health.interval;
        let (service, life, health, places) = (service.clone(), one.life, one.health.clone(), places.clone());
        questions.spawn(async move {
            let asked = since_boot();
            Told { service, life, asked, answer: question::ask(&health, &places).await }
        });
    }
}

fn take(asked: &mut BTreeMap<String, Asked>, told: Told) {
    let Some(one) = asked.get_mut(&told.service) else { return };
    one.is_under_way = false;
    if one.life != told.life {
        return;
    }
    match told.answer {
        Answer::Healthy if one.told_healthy => {}
        Answer::Healthy => {
            say::health(&told.service, told.asked, None);
            one.told_healthy = true;
        }
        Answer::Failed(why) => {
            say::line(&format!("{}: {why}", told.service));
            say::health(&told.service, told.asked, Some(&why));
            one.told_healthy = false;
        }
        Answer::Void => say::line(&format!("{}: this process was too late itself to tell", told.service)),
    }
}

impl Asked {
    fn new(health: Health) -> Self {
        Self {
            health,
            up: true,
            life: 0,
            told_healthy: false,
            next: Instant::now(),
            is_under_way: false,
            is_unseen: false,
        }
    }

    /// A new life, or one of which nothing is known.
    fn begin(&mut self) {
        self.life += 1;
        (self.up, self.told_healthy, self.next) = (true, false, Instant::now());
    }
}

/// PID 1's clock.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // Neither is ever negative for this clock.
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_init::services::Probe;

    fn one() -> BTreeMap<String, Asked> {
        let health = Health {
            probe: Probe::Exec(vec!["true".into()]),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 3,
        };
        BTreeMap::from([("a".to_owned(), Asked::new(health))])
    }

    fn told(life: u64, answer: Answer) -> Told {
        Told { service: "a".into(), life, asked: Duration::ZERO, answer }
    }

    #[tokio::test]
    async fn health_is_told_once_in_a_life_and_again_after_a_failure() {
        let mut asked = one();
        take(&mut asked, told(0, Answer::Healthy));
        assert!(asked["a"].told_healthy);
        take(&mut asked, told(0, Answer::Void));
        assert!(asked["a"].told_healthy);
        take(&mut asked, told(0, Answer::Failed("x".into())));
        assert!(!asked["a"].told_healthy);
        take(&mut asked, told(0, Answer::Healthy));
        see(&mut asked, &Places::below(None), Seen::Nothing);
        assert!(!asked["a"].told_healthy, "nobody knows whether it is the same life");
        take(&mut asked, told(0, Answer::Healthy));
        assert!(!asked["a"].told_healthy, "an answer of before");
        see(&mut asked, &Places::below(None), Seen::Nothing);
        take(&mut asked, told(1, Answer::Healthy));
        assert!(asked["a"].told_healthy, "still nothing is seen, and that is no other life");
    }

    #[tokio::test]
    async fn nobody_is_asked_who_is_not_up_and_nobody_twice_at_a_time() {
        let (mut asked, mut questions) = (one(), JoinSet::new());
        let places = Places::below(None);
        see(&mut asked, &places, Seen::NotUp("a".into()));
        ask(&mut asked, &mut questions, &places);
        assert_eq!(questions.len(), 0);
        see(&mut asked, &places, Seen::Nothing);
        ask(&mut asked, &mut questions, &places);
        asked.get_mut("a").unwrap().next = Instant::now();
        ask(&mut asked, &mut questions, &places);
        assert_eq!(questions.len(), 1);
    }
}
