//! What has happened on the node, as Talos's clients are told: PID 1's ring of events in, their messages out.

use super::feed::NodeStatus;
use super::hub::{Failing, Publisher, State};
use super::upstream::{ANSWER_LIMIT, Purpose, Refused, Target, Upstream};
use podium_wire::machine::machine_status_event::machine_status::UnmetCondition;
use podium_wire::machine::machine_status_event::{MachineStage, MachineStatus};
use podium_wire::machine::{
    Event, EventsRequest, MachineStatusEvent, SequenceEvent, ServiceHealth, ServiceStateEvent, TaskEvent,
    sequence_event, service_state_event, task_event,
};
use prost::Message;
use prost_types::Any;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tonic::Status;

/// As many as PID 1 keeps.
const KEPT_MAX: usize = podium_init::events::EVENTS_MAX;
/// Before a message's name in its type.
const TYPE: &str = "talos/runtime/machine.";

/// How PID 1 tells the end of the boot.
const BOOTED: &str = "boot finished";
/// And the begin of a shutdown: `reboot, asked by …`.
const ASKED: &str = ", asked by ";
/// The task that talosctl waits for after it has asked for the end of a node (`shutdown`, `reset`).
const STOPS_ALL: &str = "stopAllServices";

/// One of PID 1's events.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Happened {
    seq: u64,
    at_ms: u64,
    kind: String,
    service: String,
    /// What the service is after it; empty where that is not told.
    state: String,
    text: String,
}

/// The newest of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// Names the life of PID 1 that numbers are of.
    boot: String,
    events: VecDeque<Arc<Happened>>,
}

/// Follows PID 1's ring.
pub(super) async fn follow(upstream: Upstream, publisher: Publisher<Arc<Log>>) -> Refused {
    follow_once(&upstream, &publisher).await.err().unwrap_or_else(|| Refused::garbled("it has ended"))
}

async fn follow_once(upstream: &Upstream, publisher: &Publisher<Arc<Log>>) -> Result<(), Refused> {
    let request = json!({"request": "events", "since": 0, "follow": true});
    let mut lines = upstream.open(Target::InitReader, Purpose::Feed, &request).await?;
    let first = lines.next(Some(ANSWER_LIMIT)).await?.unwrap_or_default();
    let last = first.get("last").and_then(Value::as_u64).unwrap_or(0);
    let boot = first.get("boot").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut log = Log { boot, events: VecDeque::new() };
    if last == 0 {
        publisher.publish(Arc::new(log.clone()));
    }
    while let Some(line) = lines.next(None).await? {
        let Ok(event) = Happened::deserialize(&line) else { continue };
        let seq = event.seq;
        log.events.push_back(Arc::new(event));
        if log.events.len() > KEPT_MAX {
            log.events.pop_front();
        }
        // What was before is told at once.
        if seq >= last {
            publisher.publish(Arc::new(log.clone()));
        }
    }
    Ok(())
}

/// A stream's place in what happens.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) log: watch::Receiver<State<Arc<Log>>>,
    pub(super) status: watch::Receiver<State<Arc<NodeStatus>>>,
    pub(super) request: EventsRequest,
    /// Who asked for the end of the node's life; empty when nobody has.
    pub(super) actor: Arc<Mutex<String>>,
}

impl Stream {
    /// Tells until nobody listens.
    pub(super) async fn tell(mut self, sender: mpsc::Sender<Result<Event, Status>>) {
        // A client waits for this before it begins.
        if sender.send(Ok(Event::default())).await.is_err() {
            return;
        }
        let mut next: Option<u64> = None;
        let mut boot = String::new();
        let mut told: Option<Arc<NodeStatus>> = None;
        let (mut no_log, mut no_status) = (Failing::default(), Failing::default());
        loop {
            let log = no_log.see(&self.log.borrow_and_update());
            let status = no_status.see(&self.status.borrow_and_update());
            if let Some(log) = log {
                if boot != log.boot {
                    boot.clone_from(&log.boot);
                    next = None;
                }
                let from = *next.get_or_insert_with(|| log.begin(&self.request, now_ms()));
                for event in log.events.iter().filter(|event| event.seq >= from) {
                    next = Some(event.seq + 1);
                    for message in event.messages(&log.boot, &self.actor()) {
                        if !self.send(&sender, message).await {
                            return;
                        }
                    }
                }
                if let Some(status) = status.filter(|status| told.as_ref() != Some(status)) {
                    let id = format!("{boot}-{:010}-status", next.unwrap_or(1) - 1);
                    // Where nothing of before is wanted, nothing of before is told.
                    let is_news = told.replace(status.clone()).is_some() || self.request.tail_events != 0;
                    if is_news && !self.send(&sender, machine_status(&status, id)).await {
                        return;
                    }
                }
            }
            let has_told = next.is_some();
            let refused = tokio::select! {
                changed = self.log.changed() => if changed.is_err() { return } else { continue },
                changed = self.status.changed() => if changed.is_err() { return } else { continue },
                () = sender.closed() => return,
                refused = no_log.given_up(has_told) => refused,
                refused = no_status.given_up(has_told) => refused,
            };
            // A client that has gone knows it by itself.
            drop(sender.send(Err(refused.into())).await);
            return;
        }
    }

    fn actor(&self) -> String {
        self.actor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// False: nobody listens any more.
    async fn send(&self, sender: &mpsc::Sender<Result<Event, Status>>, event: Event) -> bool {
        let wanted = &self.request.with_actor_id;
        if !wanted.is_empty() && *wanted != event.actor_id {
            return true;
        }
        sender.send(Ok(event)).await.is_ok()
    }
}

impl Log {
    /// The number of the first event that was asked for.
    fn begin(&self, request: &EventsRequest, now_ms: u64) -> u64 {
        let after_last = self.events.back().map_or(1, |event| event.seq + 1);
        if !request.tail_id.is_empty() {
            let known = request.tail_id.strip_prefix(&self.boot).and_then(|rest| rest.strip_prefix('-'));
            let seq = known.and_then(|rest| rest.split('-').next()?.parse::<u64>().ok());
            return seq.map_or(0, |seq| seq.saturating_add(1));
        }
        if request.tail_seconds > 0 {
            let since = now_ms.saturating_sub(u64::from(request.tail_seconds.unsigned_abs()) * 1000);
            return self
                .events
                .iter()
                .find(|event| event.at_ms >= since)
                .map_or(after_last, |event| event.seq);
        }
        match usize::try_from(request.tail_events) {
            Ok(count) => {
                let skipped = self.events.len().saturating_sub(count);
                self.events.get(skipped).map_or(after_last, |event| event.seq)
            }
            // Negative: all.
            Err(_) => 0,
        }
    }
}

fn now_ms() -> u64 {
    let up = clock_gettime(ClockId::Boottime);
    u64::try_from(up.tv_sec * 1000 + up.tv_nsec / 1_000_000).unwrap_or(0)
}

impl Happened {
    fn messages(&self, boot: &str, actor: &str) -> Vec<Event> {
        let ends = self.kind == "shutdown" && self.text.contains(ASKED);
        let task = |task: &str| {
            let event = TaskEvent { task: task.to_owned(), action: task_event::Action::Start.into() };
            ("TaskEvent", event.encode_to_vec())
        };
        let (name, data) = match self.kind.as_str() {
            "service" => ("ServiceStateEvent", self.of_service().encode_to_vec()),
            "shutdown" if ends => ("SequenceEvent", self.of_sequence().encode_to_vec()),
            "node" if self.text.starts_with(BOOTED) => {
                let action = sequence_event::Action::Stop.into();
                let event = SequenceEvent { sequence: "boot".to_owned(), action, error: None };
                ("SequenceEvent", event.encode_to_vec())
            }
            _ => task(&self.text),
        };
        let actor_id = if self.kind == "shutdown" { actor } else { "" };
        let id = format!("{boot}-{:010}", self.seq);
        let more = ends.then(|| task(STOPS_ALL));
        let more = more.map(|(name, data)| event(name, data, format!("{id}-task"), actor_id));
        [event(name, data, id, actor_id)].into_iter().chain(more).collect()
    }

    fn of_service(&self) -> ServiceStateEvent {
        use service_state_event::Action;
        let action = match self.state.as_str() {
            "up" => Action::Running,
            "starting" => Action::Starting,
            "stopping" => Action::Stopping,
            "down" => Action::Finished,
            "backoff" | "failed" => Action::Failed,
            _ => Action::Preparing,
        };
        let is_up = action == Action::Running;
        // What the prober has found is an event of a service that is up.
        let healthy = is_up && !self.text.starts_with("not healthy: ");
        let health = ServiceHealth { unknown: !is_up, healthy, ..ServiceHealth::default() };
        ServiceStateEvent {
            service: self.service.clone(),
            action: action.into(),
            message: self.text.clone(),
            health: Some(health),
        }
    }

    fn of_sequence(&self) -> SequenceEvent {
        let sequence = match self.text.split([' ', ',']).next().unwrap_or_default() {
            "power" => "shutdown",
            word => word,
        };
        SequenceEvent {
            sequence: sequence.to_owned(),
            action: sequence_event::Action::Start.into(),
            error: None,
        }
    }
}

fn machine_status(status: &NodeStatus, id: String) -> Event {
    let stage = match status.stage {
        "maintenance" => MachineStage::Maintenance,
        "running" => MachineStage::Running,
        _ => MachineStage::Booting,
    };
    let unmet = status
        .unmet
        .iter()
        .map(|(name, reason)| UnmetCondition { name: name.clone(), reason: reason.clone() });
    let status = MachineStatus { ready: status.ready, unmet_conditions: unmet.collect() };
    let message = MachineStatusEvent { stage: stage.into(), status: Some(status) };
    event("MachineStatusEvent", message.encode_to_vec(), id, "")
}

fn event(name: &str, value: Vec<u8>, id: String, actor_id: &str) -> Event {
    let data = Any { type_url: format!("{TYPE}{name}"), value };
    Event { metadata: None, data: Some(data), id, actor_id: actor_id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_begins_where_it_was_asked_to() {
        let event = |seq: u64| Arc::new(Happened { seq, at_ms: seq * 1000, ..Happened::default() });
        let log = Log { boot: "b".to_owned(), events: (5..=9).map(event).collect() };
        let begin = |tail_events: i32, tail_id: &str, tail_seconds: i32| {
            let request =
                EventsRequest { tail_events, tail_seconds, tail_id: tail_id.into(), ..Default::default() };
            log.begin(&request, 10_000)
        };
        assert_eq!(begin(0, "", 0), 10, "only what comes");
        assert_eq!((begin(2, "", 0), begin(99, "", 0), begin(-1, "", 0)), (8, 5, 0));
        assert_eq!((begin(0, "b-0000000007", 0), begin(0, "of another life-1", 0)), (8, 0));
        assert_eq!((begin(0, "", 3), begin(0, "", 1), begin(0, "", 99)), (7, 9, 5));
        assert_eq!(Log::default().begin(&EventsRequest::default(), 0), 1);
    }

    #[tokio::test]
    async fn a_stream_is_told_why_its_source_fails() {
        let log = watch::Sender::new(State::Failed(Refused::garbled("nobody there")));
        let status = watch::Sender::new(State::Waiting);
        let (sender, mut told) = mpsc::channel(4);
        let stream = Stream {
            log: log.subscribe(),
            status: status.subscribe(),
            request: EventsRequest::default(),
            actor: Arc::default(),
        };
        tokio::spawn(stream.tell(sender));
        assert_eq!(told.recv().await.unwrap().unwrap(), Event::default(), "word that it has begun");
        let refused = told.recv().await.unwrap().unwrap_err();
        assert!(refused.message().contains("nobody there"), "{refused:?}");
        assert!(told.recv().await.is_none(), "and nothing more");
    }
}
