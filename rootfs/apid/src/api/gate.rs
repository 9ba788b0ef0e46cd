//! What a caller may do: the one place that every call passes, and the one list that it goes by
//! (`podium_wire::roles::METHODS`).
//!
//! Only what passes is read further than its headers, up to a size that its method needs.

use super::audit;
use super::connection::{Call, Session, Watched};
use super::limits::TURNS;
use super::request;
use super::weight::Scale;
use crate::node::Mode;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::{HeaderMap, Request, Response};
use podium_wire::cosi::state_server::StateServer;
use podium_wire::machine::machine_service_server::MachineServiceServer;
use podium_wire::roles::{in_maintenance, needed};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};

/// The one method whose request has a config in it.
const APPLY: &str = "/machine.MachineService/ApplyConfiguration";
/// The methods that read for as long as their client does, each by a thread of the node's helper.
const CONTENT: [&str; 5] = [
    "/machine.MachineService/DiskUsage",
    "/machine.MachineService/Dmesg",
    "/machine.MachineService/List",
    "/machine.MachineService/Logs",
    "/machine.MachineService/Read",
];
/// A caller whose address calls too often waits at most so long.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Nodes that a call may name.
const NODES_MAX: usize = 16;

/// What a call is about, for the line of the audit: filled in by who answers.
#[derive(Debug, Clone, Default)]
pub(super) struct What {
    text: Arc<Mutex<String>>,
    /// What it reads only an admin may see.
    sensitive: Arc<AtomicBool>,
}

impl What {
    pub(super) fn is(&self, what: impl Into<String>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// Has it audited, whatever its method is.
    pub(super) fn is_sensitive(&self) {
        self.sensitive.store(true, Ordering::Relaxed);
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The line of the audit that a call leaves, written when this is dropped: the call of a client that resets its stream
/// ends by that, wherever it is, and may have been made by then.
struct Trail<'a> {
    session: &'a Session,
    path: &'a str,
    what: &'a What,
    /// The request has gone on to whoever answers it.
    made: &'a AtomicBool,
    /// None: there is none yet.
    result: Option<Result<(), String>>,
}

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        if !audit::is_of_interest(needed(self.path)) && !self.what.sensitive.load(Ordering::Relaxed) {
            return;
        }
        let (has_failed, result) = match &self.result {
            Some(Ok(())) => (false, "ok"),
            Some(Err(refusal)) => (true, refusal.as_str()),
            None => (!self.made.load(Ordering::Relaxed), "the caller has gone"),
        };
        // Whoever may do nothing could else fill the log, in which he hides.
        let unsaid = if has_failed { self.session.place.refused(Instant::now()) } else { Some(0) };
        if let Some(unsaid) = unsaid {
            audit::line(&self.session.caller, self.path, &self.what.text(), result, unsaid);
        }
    }
}

/// Answers a call, or says why not.
pub(super) async fn call(session: &Arc<Session>, request: Request<Incoming>) -> Response<Watched> {
    let path = request.uri().path().to_owned();
    let (what, made) = (What::default(), AtomicBool::new(false));
    let scale = Scale::new(session.facts.room.clone(), session.place.address());
    let admitted = admit(session, &path, request.headers()).await;
    let mut trail = Trail { session, path: &path, what: &what, made: &made, result: None };
    let (answer, call) = match admitted {
        Ok(call) => (answer(session, &path, request, &what, &scale, &made).await, Some(call)),
        Err(status) => (status.into_http(), None),
    };
    let status = Status::from_header_map(answer.headers()).filter(|status| status.code() != Code::Ok);
    trail.result = Some(match status {
        Some(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        None => Ok(()),
    });
    drop(trail);
    answer.map(|body| Watched::new(body, call, scale))
}

/// Whether this caller may make this call now.
async fn admit(session: &Arc<Session>, path: &str, headers: &HeaderMap) -> Result<Call, Status> {
    is_of_now(session)?;
    // First of all: what is refused costs as well.
    let delay = session.place.delay(Instant::now());
    if delay > DELAY_MAX {
        return Err(Status::resource_exhausted("too many calls of one address; call more seldom"));
    }
    if !delay.is_zero() {
        sleep(delay).await;
        is_of_now(session)?;
    }
    let Some(needed) = needed(path) else {
        let name = path.trim_start_matches('/').replace('/', ".");
        return Err(Status::unimplemented(format!("a Podium node does not have the method {name}")));
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    if session.caller.maintenance {
        if !in_maintenance(path) {
            let why =
                format!("{name} is not answered while the node has no config; apply one with --insecure");
            return Err(Status::permission_denied(why));
        }
    } else if session.caller.role < Some(needed) {
        let has = session.caller.role.map_or("no role", |role| role.organization());
        let why =
            format!("{name} needs the role {}; this client's certificate has {has}", needed.organization());
        return Err(Status::permission_denied(why));
    }
    names_this_node(session, headers)?;
    let full = || Status::resource_exhausted("too many calls of one address are under way; end one of them");
    Call::begin(session, CONTENT.contains(&path)).ok_or_else(full)
}

/// The setup is the first to know: no call whose request is still on its way outlives the mode it came in. One that has
/// been made by then is answered: it may be the one that has changed the mode.
fn is_of_now(session: &Session) -> Result<(), Status> {
    let is_maintenance = session.facts.setup().mode == Mode::Maintenance;
    if *session.over.borrow() || session.caller.maintenance != is_maintenance {
        return Err(Status::unavailable("the node's config has changed; connect again"));
    }
    Ok(())
}

/// A node answers for itself alone.
fn names_this_node(session: &Session, headers: &HeaderMap) -> Result<(), Status> {
    let named = ["nodes", "node"].iter().flat_map(|key| headers.get_all(*key)).take(NODES_MAX + 1);
    for value in named {
        let text = value.to_str().map_err(|_| Status::invalid_argument("node: no name of a node"))?;
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names.len() > NODES_MAX {
            return Err(Status::invalid_argument("too many nodes"));
        }
        if let Some(other) = names.into_iter().find(|name| !is_this_node(session, name)) {
            let hostname = session.facts.hostname();
            return Err(Status::permission_denied(format!(
                "this node is {hostname:?} and does not forward to {other:?}; name that node as an endpoint"
            )));
        }
    }
    Ok(())
}

fn is_this_node(session: &Session, name: &str) -> bool {
    let bare = name.trim_start_matches('[').split(']').next().unwrap_or(name);
    let setup = session.facts.setup();
    match bare.parse::<IpAddr>() {
        Ok(address) => {
            let is_local =
                session.local.is_some_and(|local| local.ip().to_canonical() == address.to_canonical());
            is_local || setup.sans.iter().any(|san| san.parse() == Ok(address))
        }
        Err(_) => setup.sans.iter().any(|san| san.eq_ignore_ascii_case(bare)),
    }
}

/// `made` is set before anything is done.
async fn answer(
    session: &Session,
    path: &str,
    request: Request<Incoming>,
    what: &What,
    scale: &Scale,
    made: &AtomicBool,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let is_config = path == APPLY;
    let most = request::longest(is_config);
    let read = match session.facts.budget.read(session.place.address(), body, is_config).await {
        Ok(read) => read,
        Err(status) => return status.into_http(),
    };
    // What was allowed by its headers may have come late.
    if let Err(status) = is_of_now(session) {
        return status.into_http();
    }
    head.extensions.insert(session.caller.clone());
    head.extensions.insert(what.clone());
    head.extensions.insert(scale.clone());
    let request = Request::from_parts(head, Full::new(read.bytes.clone()));
    let facts = session.facts.clone();
    made.store(true, Ordering::Relaxed);
    let answering = async {
        if path.starts_with("/machine.") {
            MachineServiceServer::from_arc(facts).max_decoding_message_size(most).call(request).await
        } else {
            StateServer::from_arc(facts).max_decoding_message_size(most).call(request).await
        }
    };
    match TURNS.scope(session.place.turns(session.caller.acts_as()), answering).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}
