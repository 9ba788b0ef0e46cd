//! Where answers come from: PID 1 and `apid serve`, one JSON object a line over unix sockets.
//!
//! A [`Target`] is a socket that can do no more than its role may: PID 1 and `apid serve` hold to that whatever is
//! asked here. Lines, times and connections are bounded.

use super::limits::TURNS;
use crate::places::Places;
use podium_wire::roles::Role;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::{Code, Status};

/// PID 1 answers at once; `apid serve` asks the kubelet and containerd first, which have up to 10 s.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// All static pods with their manifests, or a config: larger than any that a node takes.
const LINE_MAX: u64 = 24 << 20;
/// Logs, lists and files at a time on each socket of `apid serve`: a descriptor and 8 KiB each, and a thread over there.
const STREAMS_MAX: usize = 40;
/// Calls at a time on each of its sockets; further ones wait for their turn. With the streams and what is followed here
/// they are fewer than it takes (`node::MOST_CLIENTS`).
const NODE_CALLS_MAX: usize = 16;
/// The same for each of PID 1's sockets (`ROLE_CLIENTS_MAX`).
const INIT_CALLS_MAX: usize = 8;

/// What a connection is for. Each has places of its own, and so has each socket: those who follow logs keep no call
/// waiting, and readers no admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An answer that comes to an end by itself.
    Call,
    /// An answer to one client for as long as it reads.
    Stream,
    /// For all who watch; as many as there are hubs.
    Feed,
}

/// A socket, by who answers and what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    NodeReader,
    NodeAdmin,
    /// Takes the first config of a node that has never had one, and nothing else.
    InitMaintenance,
    InitReader,
    InitOperator,
    InitAdmin,
}

impl Target {
    /// PID 1's, for this role.
    pub(super) fn init(role: Role) -> Self {
        match role {
            Role::Reader => Self::InitReader,
            Role::Operator => Self::InitOperator,
            Role::Admin => Self::InitAdmin,
        }
    }

    /// The node helper's, for this role.
    pub(super) fn node(role: Role) -> Self {
        if role == Role::Admin { Self::NodeAdmin } else { Self::NodeReader }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    code: Code,
    message: String,
}

impl Refused {
    /// Whoever should answer is away.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { code: Code::Unavailable, message: message.into() }
    }

    /// The answer is not what was agreed.
    pub(super) fn garbled(error: impl std::fmt::Display) -> Self {
        Self { code: Code::Internal, message: format!("the node's answer: {error}") }
    }

    /// With what was said before it, up to so many bytes: a config's problems, which are the caller's to mend.
    pub(super) fn because(self, problems: &[String], most: usize) -> Self {
        if problems.is_empty() {
            return self;
        }
        let mut message = self.message;
        for (place, problem) in problems.iter().enumerate() {
            if message.len() + problem.len() > most {
                message += &format!("\n… {} more", problems.len() - place);
                break;
            }
            message += "\n";
            message += problem;
        }
        Self { code: Code::InvalidArgument, message }
    }

    /// As the other end told it.
    fn told(line: &Value) -> Self {
        let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
        let code = match text("code") {
            "not_found" => Code::NotFound,
            "invalid" => Code::InvalidArgument,
            "denied" => Code::PermissionDenied,
            "unavailable" => Code::Unavailable,
            "internal" => Code::Internal,
            // PID 1 has words and no codes.
            _ if text("error").starts_with("there is no ") => Code::NotFound,
            _ => Code::FailedPrecondition,
        };
        let message = match text("remedy") {
            "" => text("error").to_owned(),
            remedy => format!("{}; {remedy}", text("error")),
        };
        Self { code, message }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code, refused.message)
    }
}

/// Connections that may be made to one socket.
#[derive(Debug)]
struct Door {
    path: PathBuf,
    who: &'static str,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Door {
    fn new(path: PathBuf, who: &'static str, calls: usize) -> Self {
        let places = |most| Arc::new(Semaphore::new(most));
        Self { path, who, calls: places(calls), streams: places(STREAMS_MAX) }
    }

    async fn places(&self, purpose: Purpose) -> Result<Vec<OwnedSemaphorePermit>, Refused> {
        let full = |message: String| Refused { code: Code::ResourceExhausted, message };
        match purpose {
            Purpose::Feed => Ok(Vec::new()),
            Purpose::Stream => {
                self.streams.clone().try_acquire_owned().map(|place| vec![place]).map_err(|_| {
                    full(format!("{STREAMS_MAX} logs and lists are being read already; end one of them"))
                })
            }
            Purpose::Call => {
                let turns = TURNS.try_with(Arc::clone).ok();
                let mut places = Vec::new();
                let waiting = async {
                    // First its client's own: nobody who waits for one of those keeps a place from others.
                    for semaphore in turns.into_iter().chain([self.calls.clone()]) {
                        places.extend(semaphore.acquire_owned().await);
                    }
                };
                match timeout(ANSWER_LIMIT, waiting).await {
                    Ok(()) => Ok(places),
                    Err(_) => Err(full(format!("{} has too many calls to answer; try again", self.who))),
                }
            }
        }
    }
}

/// The way to the sockets.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    node: Arc<[Door; 2]>,
    init: Arc<[Door; 4]>,
}

impl Upstream {
    /// Connects when it is asked.
    pub(super) fn new(places: &Places) -> Self {
        let helper = "the node's helper (service apid)";
        let node = places.node_sockets().map(|path| Door::new(path, helper, NODE_CALLS_MAX));
        let init = places.init_sockets().map(|path| Door::new(path, "PID 1", INIT_CALLS_MAX));
        Self { node: Arc::new(node), init: Arc::new(init) }
    }

    /// Sends a request; lines of its answer follow, the first of which has been found to say `ok`.
    ///
    /// # Errors
    /// No connection is left, nobody listens, or the request was refused.
    pub(super) async fn open(
        &self,
        target: Target,
        purpose: Purpose,
        request: &Value,
    ) -> Result<Lines, Refused> {
        let [node_reader, node_admin] = &*self.node;
        let [init_maintenance, init_reader, init_operator, init_admin] = &*self.init;
        let (door, is_init) = match target {
            Target::NodeReader => (node_reader, false),
            Target::NodeAdmin => (node_admin, false),
            Target::InitMaintenance => (init_maintenance, true),
            Target::InitReader => (init_reader, true),
            Target::InitOperator => (init_operator, true),
            Target::InitAdmin => (init_admin, true),
        };
        let who = door.who;
        let places = door.places(purpose).await?;
        let away =
            |what: &dyn std::fmt::Display| Refused::unavailable(format!("{who} does not answer: {what}"));
        let connected =
            timeout(ANSWER_LIMIT, UnixStream::connect(&door.path)).await.map_err(|late| away(&late))?;
        let stream = connected.map_err(|error| away(&error))?;
        let mut lines = Lines { stream: BufReader::new(stream), first: None, _places: places };
        let mut request = request.clone();
        if is_init && let Some(request) = request.as_object_mut() {
            request.insert("version".to_owned(), json!(podium_init::control::VERSION));
        }
        lines.send(format!("{request}\n").as_bytes()).await?;
        let first = lines.next(Some(ANSWER_LIMIT)).await?;
        lines.first = Some(first.ok_or_else(|| away(&"it has closed the connection"))?);
        Ok(lines)
    }

    /// The one line of an answer that has no more.
    pub(super) async fn ask(&self, target: Target, request: &Value) -> Result<Value, Refused> {
        let mut lines = self.open(target, Purpose::Call, request).await?;
        lines.next(Some(ANSWER_LIMIT)).await?.ok_or_else(|| Refused::garbled("it has none"))
    }
}

/// An answer, line by line.
#[derive(Debug)]
pub(super) struct Lines {
    stream: BufReader<UnixStream>,
    first: Option<Value>,
    _places: Vec<OwnedSemaphorePermit>,
}

impl Lines {
    /// The next line; none at the end. `limit`: how long it may take.
    ///
    /// # Errors
    /// The line says that something went wrong, or is none.
    pub(super) async fn next(&mut self, limit: Option<Duration>) -> Result<Option<Value>, Refused> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let mut bytes = Vec::new();
        let mut part = (&mut self.stream).take(LINE_MAX);
        let reading = part.read_until(b'\n', &mut bytes);
        let read = match limit {
            Some(limit) => timeout(limit, reading).await.map_err(|_| {
                Refused::unavailable(format!("the node has not answered within {} s", limit.as_secs()))
            })?,
            None => reading.await,
        };
        match read {
            Ok(0) => return Ok(None),
            Ok(_) if bytes.last() == Some(&b'\n') => {}
            Ok(_) => return Err(Refused::garbled("it was cut off")),
            Err(error) => return Err(Refused::unavailable(format!("the node's answer: {error}"))),
        }
        let line: Value = serde_json::from_slice(&bytes).map_err(Refused::garbled)?;
        let is_refusal = line.get("ok") == Some(&Value::Bool(false))
            || line.get("error").is_some_and(Value::is_string) && line.get("code").is_some();
        if is_refusal { Err(Refused::told(&line)) } else { Ok(Some(line)) }
    }

    /// Sends more of a request.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let sent = timeout(ANSWER_LIMIT, self.stream.get_mut().write_all(bytes)).await;
        match sent {
            // It has said why, and that is read next.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Ok(Err(error)) => Err(Refused::unavailable(format!("the node: {error}"))),
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(Refused::unavailable("the node does not take the request")),
        }
    }

    /// Says that the request has no more.
    pub(super) async fn end(&mut self) -> Result<(), Refused> {
        let ended = self.stream.get_mut().shutdown().await;
        ended.map_err(|error| Refused::unavailable(format!("the node: {error}")))
    }
}
