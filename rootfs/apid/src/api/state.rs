//! `cosi.resource.State`: resources, got, listed and watched. Which there are is in `podium_wire::resources`.

use super::caller::Caller;
use super::facts::Facts;
use super::gate::What;
use super::hub::{Failing, Hub, State as Known};
use super::machine::{caller, scale, what};
use super::resources::Table;
use super::weight::{Gone, Sender, Weighed};
use podium_wire::cosi::state_server::State;
use podium_wire::cosi::{
    Event, EventType, GetRequest, GetResponse, IdQuery, LabelQuery, ListRequest, ListResponse, Metadata,
    Resource, WatchOptions, WatchRequest, WatchResponse,
};
use podium_wire::resources::Definition;
use podium_wire::roles::Role;
use prost::Message;
use regex_lite::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// Bytes of events in one message, unless one event alone has more: a client takes messages of some MiB at most. A slow
/// reader sees the newest state when it comes back, not each one in between.
const MESSAGE_MAX: usize = 256 << 10;
/// A pattern for ids, and what it may become.
const PATTERN_MAX: usize = 1024;
/// As [`PATTERN_MAX`].
const REGEX_MAX: usize = 256 << 10;
/// What an event has beside its resources, at most.
const EVENT: usize = 32;

/// Which resources of a type are meant.
#[derive(Debug)]
struct Selection {
    /// None are in another namespace.
    is_elsewhere: bool,
    id: Option<String>,
    pattern: Option<Regex>,
}

impl Selection {
    fn new(definition: &Definition, namespace: &str, query: Option<&IdQuery>) -> Result<Self, Status> {
        let pattern = query.map(|query| query.regexp.as_str()).filter(|pattern| !pattern.is_empty());
        let pattern = pattern.map(|pattern| {
            let too_long = pattern.len() > PATTERN_MAX;
            let built = RegexBuilder::new(pattern).size_limit(REGEX_MAX).build();
            built.ok().filter(|_| !too_long).ok_or_else(|| Status::invalid_argument("id_query: no pattern"))
        });
        let is_elsewhere = !namespace.is_empty() && namespace != definition.namespace;
        Ok(Self { is_elsewhere, id: None, pattern: pattern.transpose()? })
    }

    fn has(&self, id: &str) -> bool {
        !self.is_elsewhere
            && self.id.as_ref().is_none_or(|wanted| wanted == id)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

impl Facts {
    /// The resources of a type, if this caller may see them.
    fn hub(
        &self,
        kind: &str,
        caller: &Caller,
        what: &What,
    ) -> Result<(&'static Definition, &Hub<Table>), Status> {
        let definition = Definition::find(kind).ok_or_else(|| {
            Status::not_found(format!(
                "there are no resources of type {kind:?} here; `get rd` lists the types"
            ))
        })?;
        if definition.sensitive {
            what.is(definition.display);
            what.is_sensitive();
        }
        if definition.sensitive && caller.role < Some(Role::Admin) {
            return Err(Status::permission_denied(format!(
                "resources of type {} need the role {}",
                definition.display,
                Role::Admin.organization()
            )));
        }
        let hub = self.feeds.table(definition).ok_or_else(|| Status::internal("a type without a source"))?;
        Ok((definition, hub))
    }
}

fn refuse_labels(queries: &[LabelQuery]) -> Result<(), Status> {
    if queries.iter().any(|query| !query.terms.is_empty()) {
        return Err(Status::unimplemented("resources of a Podium node have no labels; leave the query out"));
    }
    Ok(())
}

/// A client that goes on from where it was would take what it is told for all that has been. One that asks for a mark
/// to go on from (`bootstrap_bookmark`) gets none, and begins anew.
fn refuse_past(options: &WatchOptions) -> Result<(), Status> {
    if options.tail_events != 0 || options.start_from_bookmark.as_ref().is_some_and(|mark| !mark.is_empty()) {
        return Err(Status::unimplemented(
            "a Podium node keeps no past changes of resources; leave tail_events and start_from_bookmark out: \
             bootstrap_contents has it tell what there is",
        ));
    }
    Ok(())
}

#[tonic::async_trait]
impl State for Facts {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (caller, what, scale) = (caller(&request)?, what(&request), scale(&request)?);
        let request = request.into_inner();
        let (definition, hub) = self.hub(&request.r#type, &caller, &what)?;
        let selection = Selection::new(definition, &request.namespace, None)?;
        let table = hub.get().await?;
        let found = table.get(&request.id).filter(|_| selection.has(&request.id));
        let resource = found.ok_or_else(|| {
            Status::not_found(format!(
                "resource {}({}/{}) doesn't exist",
                definition.kind, definition.namespace, request.id
            ))
        })?;
        scale.of_answer(&**resource).await?;
        Ok(Response::new(GetResponse { resource: Some((**resource).clone()) }))
    }

    type ListStream = Weighed<ListResponse>;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let (caller, what, scale) = (caller(&request)?, what(&request), scale(&request)?);
        let request = request.into_inner();
        let (definition, hub) = self.hub(&request.r#type, &caller, &what)?;
        let options = request.options.unwrap_or_default();
        refuse_labels(&options.label_query)?;
        let selection = Selection::new(definition, &request.namespace, options.id_query.as_ref())?;
        let table = hub.get().await?;
        let (sender, stream) = scale.stream();
        tokio::spawn(async move {
            for (_, resource) in table.iter().filter(|(id, _)| selection.has(id)) {
                let answer = || ListResponse { resource: Some((**resource).clone()) };
                if sender.send(resource.encoded_len(), answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(stream))
    }

    type WatchStream = Weighed<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (caller, what, scale) = (caller(&request)?, what(&request), scale(&request)?);
        let request = request.into_inner();
        let (definition, hub) = self.hub(&request.r#type, &caller, &what)?;
        let options = request.options.unwrap_or_default();
        refuse_labels(&options.label_query)?;
        refuse_past(&options)?;
        let mut selection = Selection::new(definition, &request.namespace, options.id_query.as_ref())?;
        selection.id = request.id.filter(|id| !id.is_empty());
        let (sender, stream) = scale.stream();
        let watcher = Watcher {
            definition,
            selection,
            // One resource's state is always told first, all of a type only when that was asked for.
            tells_first: options.bootstrap_contents,
            knows_all_events: request.api_version >= 1,
            aggregated: options.aggregated,
            sender,
        };
        tokio::spawn(watcher.tell(hub.watch()));
        Ok(Response::new(stream))
    }
}

/// One watch.
#[derive(Debug)]
struct Watcher {
    definition: &'static Definition,
    selection: Selection,
    tells_first: bool,
    /// Of the newer interface: the end of what was there before, and errors.
    knows_all_events: bool,
    aggregated: bool,
    sender: Sender<WatchResponse>,
}

impl Watcher {
    async fn tell(self, mut states: watch::Receiver<Known<Table>>) {
        // Word that the watch has begun.
        if self.sender.send(0, WatchResponse::default).await.is_err() {
            return;
        }
        let mut last: Option<Table> = None;
        let mut failing = Failing::default();
        loop {
            let now = failing.see(&states.borrow_and_update());
            if let Some(now) = now {
                let events = match &last {
                    Some(last) => self.changes(last, &now),
                    None => self.first(&now),
                };
                last = Some(now);
                if self.send(events).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                () = self.sender.closed() => return,
                refused = failing.given_up(last.is_some()) => {
                    self.sender.refuse(refused.into()).await;
                    return;
                }
            }
        }
    }

    /// What there is when the watch begins.
    fn first(&self, now: &Table) -> Vec<Change> {
        if let Some(id) = &self.selection.id {
            return vec![match now.get(id).filter(|_| self.selection.has(id)) {
                Some(resource) => Change::Created(resource.clone()),
                None => Change::Destroyed(Arc::new(self.gone(id))),
            }];
        }
        if !self.tells_first {
            return Vec::new();
        }
        let there = now.iter().filter(|(id, _)| self.selection.has(id));
        let mut changes: Vec<Change> = there.map(|(_, resource)| Change::Created(resource.clone())).collect();
        if self.knows_all_events {
            changes.push(Change::Bootstrapped);
        }
        changes
    }

    fn changes(&self, last: &Table, now: &Table) -> Vec<Change> {
        let ids: BTreeSet<&String> = last.keys().chain(now.keys()).collect();
        let changes = ids.into_iter().filter(|id| self.selection.has(id)).filter_map(|id| {
            match (last.get(id), now.get(id)) {
                (None, Some(new)) => Some(Change::Created(new.clone())),
                (Some(old), None) => Some(Change::Destroyed(old.clone())),
                (Some(old), Some(new)) if !Arc::ptr_eq(old, new) => {
                    Some(Change::Updated { new: new.clone(), old: old.clone() })
                }
                _ => None,
            }
        });
        changes.collect()
    }

    /// Stands for a resource that is not there.
    fn gone(&self, id: &str) -> Resource {
        let metadata = Metadata {
            namespace: self.definition.namespace.to_owned(),
            r#type: self.definition.kind.to_owned(),
            id: id.to_owned(),
            version: "undefined".to_owned(),
            phase: "running".to_owned(),
            ..Metadata::default()
        };
        Resource { metadata: Some(metadata), spec: None }
    }

    async fn send(&self, changes: Vec<Change>) -> Result<(), Gone> {
        let mut changes = changes.into_iter().map(|change| (change.bytes(), change)).peekable();
        while let Some((mut bytes, first)) = changes.next() {
            let mut of_it = vec![first];
            while self.aggregated
                && let Some((more, next)) = changes.next_if(|(more, _)| bytes + more <= MESSAGE_MAX)
            {
                bytes += more;
                of_it.push(next);
            }
            let message = || WatchResponse { event: of_it.iter().map(Change::event).collect() };
            self.sender.send(bytes, message).await?;
        }
        Ok(())
    }
}

/// An event before it is sent: all watchers of a table have the same resources, and each waits for its own reader.
#[derive(Debug)]
enum Change {
    Created(Arc<Resource>),
    Destroyed(Arc<Resource>),
    Updated {
        new: Arc<Resource>,
        old: Arc<Resource>,
    },
    /// The end of what was there before.
    Bootstrapped,
}

impl Change {
    /// What its event has on the wire, at most.
    fn bytes(&self) -> usize {
        EVENT
            + match self {
                Self::Created(resource) | Self::Destroyed(resource) => resource.encoded_len(),
                Self::Updated { new, old } => new.encoded_len() + old.encoded_len(),
                Self::Bootstrapped => 0,
            }
    }

    fn event(&self) -> Event {
        let (kind, resource, old) = match self {
            Self::Created(resource) => (EventType::Created, Some(resource), None),
            Self::Destroyed(resource) => (EventType::Destroyed, Some(resource), None),
            Self::Updated { new, old } => (EventType::Updated, Some(new), Some(old)),
            Self::Bootstrapped => (EventType::Bootstrapped, None, None),
        };
        let whole = |resource: &Arc<Resource>| (**resource).clone();
        Event {
            resource: resource.map(whole),
            event_type: kind.into(),
            old: old.map(whole),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::upstream::Refused;
    use super::super::weight::Scale;
    use super::*;
    use podium_wire::cosi::Spec;
    use podium_wire::resources::SERVICES;
    use tokio_stream::StreamExt;

    fn watcher() -> (Watcher, Weighed<WatchResponse>) {
        let (sender, told) = Scale::new(super::super::weight::room(), [192, 0, 2, 1].into()).stream();
        let definition = Definition::find(SERVICES).unwrap();
        let selection = Selection::new(definition, "", None).unwrap();
        let watcher = Watcher {
            definition,
            selection,
            tells_first: true,
            knows_all_events: true,
            aggregated: true,
            sender,
        };
        (watcher, told)
    }

    #[tokio::test]
    async fn aggregated_events_are_cut_into_messages_of_a_bounded_size() {
        const ROWS: usize = 50;
        let resource = |_| {
            let spec = Spec { proto_spec: Vec::new(), yaml_spec: "x".repeat(20 << 10) };
            Arc::new(Resource { metadata: None, spec: Some(spec) })
        };
        let table: Table = Arc::new((0..ROWS).map(|row| (format!("{row:02}"), resource(row))).collect());
        let (watcher, mut told) = watcher();
        let states = watch::Sender::new(Known::Now(table));
        tokio::spawn(watcher.tell(states.subscribe()));
        assert_eq!(told.next().await.unwrap().unwrap(), WatchResponse::default());
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() <= ROWS {
            let message = told.next().await.unwrap().unwrap();
            assert!(message.encoded_len() <= MESSAGE_MAX + (1 << 10), "{}", message.encoded_len());
            sizes.push(message.event.len());
        }
        assert_eq!(sizes, [12, 12, 12, 12, 3], "as many as fit, and the end of what was there");
    }

    #[test]
    fn a_watch_of_what_has_been_is_refused_and_one_of_what_is_is_not() {
        let plain = WatchOptions { bootstrap_contents: true, bootstrap_bookmark: true, ..Default::default() };
        let no_mark = WatchOptions { start_from_bookmark: Some(Vec::new()), ..plain.clone() };
        assert!(refuse_past(&plain).is_ok() && refuse_past(&no_mark).is_ok());
        for past in [
            WatchOptions { tail_events: 5, ..plain.clone() },
            WatchOptions { start_from_bookmark: Some(vec![1]), ..plain },
        ] {
            assert_eq!(refuse_past(&past).unwrap_err().code(), tonic::Code::Unimplemented, "{past:?}");
        }
    }

    #[tokio::test]
    async fn a_watcher_is_told_why_its_source_fails() {
        let (watcher, mut told) = watcher();
        let states = watch::Sender::new(Known::Failed(Refused::garbled("nobody there")));
        tokio::spawn(watcher.tell(states.subscribe()));
        assert_eq!(told.next().await.unwrap().unwrap(), WatchResponse::default(), "word that it has begun");
        let status = told.next().await.unwrap().unwrap_err();
        assert!(status.message().contains("nobody there"), "{status:?}");
        assert!(told.next().await.is_none(), "and nothing more");
    }
}
