//! What a request on the control socket brings about: an answer from memory, a step of the supervisor, or a job.
//!
//! PID 1 reads no file of a disk and waits for nobody here. What writes is said on the console with who asked for it, before it
//! is done.

use super::jobs::Kind;
use super::{Reactor, events};
use crate::sys::stream::Peer;
use crate::sys::{cgroup, clock, reboot};
use podium_init::clock::Time;
use podium_init::control::{self, Action, By, Refusal, Request, Role, Told, Versions};
use podium_init::live::{Ask, Phase};
use podium_init::shutdown::Shutdown;
use podium_init::supervisor::{Event, Id, Status, Wanted};
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::json;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Reading the largest log takes well below a second; the rest is a client that reads slowly, or a kubelet that is
/// asked for its pods' states.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A config comes from the client, is parsed within a minute, compared and written.
pub(super) const CHANGE_LIMIT: Duration = Duration::from_secs(300);
/// What a client may give a config to prove itself, or to be tried: less than the soak proves nothing, and of a day
/// nobody thinks any more.
const PROOF_LIMITS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(86_400);
/// Clients' changes that wait for the one that runs: so many of root, and as many of the network API.
const CHANGES_WAITING: usize = 4;

/// What can be told of itself. A new `boot` for each life of PID 1: a container's kernel is older than that.
pub(super) fn versions(build_id: String) -> Versions {
    let mut life = [0; 8];
    // Without the kernel's word for randomness the time of this start has to do.
    let boot = match getrandom(&mut life[..], GetRandomFlags::INSECURE) {
        Ok(_) => u64::from_ne_bytes(life),
        Err(_) => events::millis(clock::now()),
    };
    Versions {
        podium: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        build_id,
        boot: format!("{boot:016x}"),
    }
}

impl Reactor {
    /// Everything about clients in one turn: their limits, their lines, what they are told. `ready` is in the order
    /// of the sources that they gave.
    pub(super) fn serve(&mut self, ready: Vec<bool>) {
        let now = clock::now();
        self.clients.receive(ready.into_iter(), now);
        // One line each; who has more gets the next turn.
        for place in 0..self.clients.count() {
            if let Some(line) = self.clients.line(place) {
                self.answer(place, &line, now);
            }
        }
        self.clients.send(&self.ring, now);
        self.clients.expire(now);
    }

    fn answer(&mut self, place: usize, line: &[u8], now: Time) {
        let Some(role) = self.clients.role(place) else { return };
        let request =
            control::parse(line).and_then(|request| control::allowed(role, &request).map(|()| request));
        let answer = request.and_then(|request| match request.by() {
            By::Init => self.answer_request(place, role, request, now).map(Some),
            By::Answer => self.hand_over(place, role, &request),
            By::Change => self.hand_over_change(place, role, &request),
        });
        match answer {
            Ok(Some(answer)) => self.clients.tell(place, &answer, now),
            Ok(None) => {}
            Err(why) => self.clients.tell(place, &control::refusal(&why), now),
        }
    }

    /// What PID 1 answers itself.
    fn answer_request(
        &mut self,
        place: usize,
        role: Role,
        request: Request,
        now: Time,
    ) -> Result<String, Refusal> {
        match request {
            Request::Version => Ok(control::versions(&self.versions)),
            Request::Services => {
                let told = self.supervisor.statuses().enumerate().map(|(at, status)| self.told(at, status));
                Ok(control::services(told, now))
            }
            Request::ServiceStatus { name } => {
                let id = self.place_of(&name)?;
                self.tell_service(id, now)
            }
            Request::Service { name, action } => self.act(place, &name, action, now),
            Request::Events { since, boot, follow } => {
                if follow && !self.clients.may_follow(role) {
                    return Err(Refusal::new("too many clients follow events", "end one of them"));
                }
                Ok(self.tell_events(place, since, boot.as_deref(), follow))
            }
            Request::ConfigStatus => Ok(self.config_status()),
            Request::Shutdown(how) => self.shut_down(place, how),
            // `Request::by` gives these to a job.
            Request::Logs { .. }
            | Request::Pods
            | Request::PodStatus { .. }
            | Request::ConfigGet
            | Request::ConfigApply { .. }
            | Request::ConfigHistory
            | Request::ConfigRollback { .. }
            | Request::Dmesg { .. } => Err(Refusal::new("not answered by PID 1", "")),
        }
    }

    fn act(&mut self, place: usize, name: &str, action: Action, now: Time) -> Result<String, Refusal> {
        let id = self.place_of(name)?;
        if action != Action::Stop {
            self.refuse_at_the_end()?;
        }
        let text = format!("{}, asked by {}", action.word(), self.who(place));
        self.ring.push(events::Kind::Control, Some(name), &text, now);
        self.lines.push(format!("{name}: {text}"));
        self.step(match action {
            Action::Start => Event::Want(Id(id), Wanted::Up),
            Action::Stop => Event::Want(Id(id), Wanted::Down),
            Action::Restart => Event::Restart(Id(id)),
        });
        self.tell_service(id, now)
    }

    fn place_of(&self, name: &str) -> Result<usize, Refusal> {
        let known = self.places.iter().map(|place| place.service.as_str());
        known.clone().position(|known| known == name).ok_or_else(|| control::no_such_service(name, known))
    }

    fn tell_service(&self, at: usize, now: Time) -> Result<String, Refusal> {
        let told = self.supervisor.statuses().nth(at).map(|status| self.told(at, status));
        Ok(told.map_or_else(control::ok, |told| control::service(&told, now)))
    }

    /// With what the kernel counts for it now: two files of the kernel's own memory.
    fn told<'a>(&self, at: usize, status: Status<'a>) -> Told<'a> {
        let usage = self.places.get(at).map(|place| cgroup::usage(&place.cgroup)).unwrap_or_default();
        Told { status, reason: self.supervisor.reason(Id(at)), usage }
    }

    /// The first line of an answer to `events`; the events follow from the ring.
    fn tell_events(&mut self, place: usize, since: u64, boot: Option<&str>, follow: bool) -> String {
        let new_boot = since > self.ring.last() || boot.is_some_and(|boot| boot != self.versions.boot);
        let since = if new_boot { 0 } else { since };
        let lost = self.ring.gap(since);
        self.clients.follow(place, lost.map_or(since, |lost| lost.to), follow);
        control::events_begin(&self.versions.boot, self.ring.last(), lost, new_boot, clock::now())
    }

    /// What is known of changes to the config without reading a file.
    fn config_status(&self) -> String {
        let (phase, until) = match self.policy.phase() {
            Phase::Settled => ("settled", None),
            Phase::OnProof(until) => ("on proof", Some(until)),
            Phase::Unproven => ("unproven", None),
            Phase::Tried(until) => ("tried", Some(until)),
        };
        let left = until.map(|until| until.saturating_sub(clock::now()).as_secs());
        format!(
            "{}\n",
            json!({"ok": true, "changing": self.policy.is_busy(), "waiting": self.waiting.len(), "phase": phase, "left_s": left})
        )
    }

    fn shut_down(&mut self, place: usize, how: Shutdown) -> Result<String, Refusal> {
        if let Shutdown::Reset(_) = how {
            if reboot::in_pid_namespace() {
                return Err(Refusal::new(
                    "a container has no partitions of its own",
                    "remove its volumes from outside",
                ));
            }
            // Asking again only hurries: it would not become a reset.
            self.refuse_at_the_end()?;
        }
        let by = format!("the control socket, {}", self.who(place));
        self.ring.push(events::Kind::Control, None, &format!("{how}, asked by {by}"), clock::now());
        self.end(how, by);
        Ok(control::ok())
    }

    /// Gives the connection to a job, which answers the rest. `None`: nothing is left to say here.
    fn hand_over(&mut self, place: usize, role: Role, request: &Request) -> Result<Option<String>, Refusal> {
        let kind = Kind::Answer(role);
        if !self.jobs.has_room(kind) {
            return Err(Refusal::new("too many answers are under way", "end one that follows, or ask later"));
        }
        let connection = self.take_connection(place)?;
        let line = request.to_line();
        let limit = (!request.is_endless()).then_some(ANSWER_LIMIT);
        if let Err(error) = self.jobs.start(kind, &["answer", line.trim_end()], Some(connection), limit) {
            // The connection is gone with it: the client sees its end.
            self.say(format!("control: no job for an answer: {error:#}"));
        }
        Ok(None)
    }

    /// As [`Self::hand_over`], to the job that changes the config.
    fn hand_over_change(
        &mut self,
        place: usize,
        role: Role,
        request: &Request,
    ) -> Result<Option<String>, Refusal> {
        self.refuse_at_the_end()?;
        let of_root = |role: Role| role == Role::Root;
        let waiting = self.waiting.iter().filter(|(_, _, other)| of_root(*other) == of_root(role));
        if waiting.count() >= CHANGES_WAITING {
            return Err(Refusal::new("too many changes wait for their turn", "ask later: `config status`"));
        }
        let by = self.who(place);
        let line = request.to_line();
        let ask = match *request {
            Request::ConfigApply { mode, dry_run, timeout_s } => {
                let limit = timeout_s.map(Duration::from_secs);
                if limit.is_some_and(|limit| !PROOF_LIMITS.contains(&limit)) {
                    let (least, most) = (PROOF_LIMITS.start().as_secs(), PROOF_LIMITS.end().as_secs());
                    return Err(Refusal::new(
                        "the timeout is out of bounds",
                        format!("from {least} to {most} seconds"),
                    ));
                }
                let first = role == Role::Maintenance;
                Ask::Apply { mode, dry_run, limit, first, by: by.clone() }
            }
            Request::ConfigRollback { generation } => Ask::Rollback { generation, by: by.clone() },
            _ => return Err(Refusal::new("this request changes nothing", "")),
        };
        let connection = self.take_connection(place)?;
        let text = format!("{}, asked by {by}", line.trim_end());
        self.ring.push(events::Kind::Control, None, &text, clock::now());
        self.waiting.push_back((ask, connection, role));
        Ok(None)
    }

    fn take_connection(&mut self, place: usize) -> Result<OwnedFd, Refusal> {
        self.clients.hand_over(place).ok_or_else(|| {
            Refusal::new("there is more on the connection", "wait for the answer before you go on")
        })
    }

    fn refuse_at_the_end(&self) -> Result<(), Refusal> {
        match self.supervisor.shutting_down() {
            Some((how, _)) => Err(Refusal::new(format!("the node is on its way down: {how}"), "")),
            None => Ok(()),
        }
    }

    fn who(&self, place: usize) -> String {
        let who = match self.clients.peer(place) {
            Some(Peer { pid, uid }) if pid > 0 => format!("pid {pid}, uid {uid}"),
            Some(Peer { uid, .. }) => format!("uid {uid} from outside"),
            None => "nobody".to_owned(),
        };
        match self.clients.role(place) {
            None | Some(Role::Root) => who,
            Some(role) => format!("{who}, the API's {}", role.word()),
        }
    }
}
