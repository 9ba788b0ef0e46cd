//! The nodes of a command: which they are, how each is reached, and one question to all of them at once.
//!
//! A node that is also an endpoint is dialled itself; another one is asked for at an endpoint by gRPC metadata, as
//! talosctl does. Answers come in the order in which the nodes were given; a node that fails is told on standard error
//! and makes the command fail, the others' answers are shown.

mod dial;
mod tls;
mod wire;

use crate::cli::Global;
use crate::fault::{self, Asker, Fault};
use crate::{files, say};
use anyhow::Result;
use dial::Dialer;
use podium_podiumctl::endpoint::Endpoint;
use podium_podiumctl::pki;
use podium_wire::MESSAGE_MAX;
use podium_wire::cosi::state_client::StateClient;
use podium_wire::machine::machine_service_client::MachineServiceClient;
use podium_wire::roles::Role;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Messages of followed nodes that wait to be printed: enough to print in bursts, few enough that a slow terminal slows
/// the nodes down and not this program's memory up.
const WAITING: usize = 64;

/// Machine service of one node.
pub(crate) type Machine = MachineServiceClient<InterceptedService<Channel, Header>>;
/// State service of one node.
pub(crate) type State = StateClient<InterceptedService<Channel, Header>>;

/// The nodes of one command.
#[derive(Debug)]
pub(crate) struct Session {
    targets: Vec<Target>,
    dialer: Arc<Dialer>,
    failed: AtomicBool,
}

#[derive(Debug, Clone)]
struct Target {
    name: String,
    dial: Vec<Endpoint>,
    /// What the endpoint is told, unless it is the node itself.
    header: Option<MetadataValue<Ascii>>,
}

/// One node that is connected.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// As the operator calls it.
    pub(crate) name: String,
    /// Where it itself is reached, not another one that asks it.
    endpoints: Vec<Endpoint>,
    channel: Channel,
    header: Option<MetadataValue<Ascii>>,
    asker: Asker,
    heard: wire::Heard,
}

/// Names the node in each request.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    key: &'static str,
    value: Option<MetadataValue<Ascii>>,
}

impl tonic::service::Interceptor for Header {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.value {
            request.metadata_mut().insert(self.key, value.clone());
        }
        Ok(request)
    }
}

impl Node {
    pub(crate) fn machine(&self) -> Machine {
        let header = Header { key: "nodes", value: self.header.clone() };
        MachineServiceClient::with_interceptor(self.channel.clone(), header)
            .max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn state(&self) -> State {
        let header = Header { key: "node", value: self.header.clone() };
        StateClient::with_interceptor(self.channel.clone(), header).max_decoding_message_size(MESSAGE_MAX)
    }

    /// The same node without a certificate of ours: as it is reached when it has lost its config.
    ///
    /// # Errors
    /// It is only known by a name that is no address.
    pub(crate) fn without_certificate(&self) -> Result<Session> {
        let dial = match self.header {
            None => self.endpoints.clone(),
            // Whoever has asked it for us does not pass on what has no certificate.
            Some(_) => vec![Endpoint::parse(&self.name).map_err(Fault::usage)?],
        };
        let target = Target { name: self.name.clone(), dial, header: None };
        let asker = Asker { insecure: true, ..Asker::default() };
        let session = Session::with(vec![target], tls::insecure()?, asker, Vec::new());
        // It is looked at again and again, and nothing is given to it.
        session.dialer.said.store(true, Ordering::Relaxed);
        Ok(session)
    }

    /// An answer that is none, in words.
    pub(crate) fn fault(&self, method: &str, status: &Status) -> Fault {
        match self.heard.take() {
            // A canceled request says nothing; the connection has said why.
            Some(error) => fault::of_tls(&self.name, &error, &self.asker),
            None => fault::of_status(&self.name, method, status, &self.asker),
        }
    }
}

impl Session {
    /// By the talosconfig and the global flags.
    ///
    /// # Errors
    /// No talosconfig, no endpoint, or a context that cannot be used.
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let file = files::read_talosconfig(global)?;
        let (name, context) = file.context(global.context.as_deref()).map_err(Fault::new)?;
        let credentials = context.pem().map_err(|error| Fault::new(format!("context {name}: {error}")))?;
        let tls = tls::mutual(&credentials, name)?;
        let facts = credentials.crt.as_deref().and_then(|crt| pki::facts(crt).ok());
        let role = facts.and_then(|facts| Role::of(facts.roles.iter().map(String::as_str)));
        let endpoints = if global.endpoints.is_empty() { &context.endpoints } else { &global.endpoints };
        let nodes = if global.nodes.is_empty() { &context.nodes } else { &global.nodes };
        let targets = targets(endpoints, nodes)?;
        if targets.is_empty() {
            let fault = Fault::usage(format!("context {name} has no endpoint"));
            return Err(fault
                .remedy("give --nodes ADDRESS, or set it: podiumctl config endpoint ADDRESS")
                .into());
        }
        Ok(Self::with(targets, tls, Asker { context: name.to_owned(), role, insecure: false }, Vec::new()))
    }

    /// To nodes in maintenance mode: no certificate of ours, any of theirs.
    ///
    /// # Errors
    /// No node is given.
    pub(crate) fn insecure(global: &Global, fingerprints: &[String]) -> Result<Self> {
        let nodes = if global.nodes.is_empty() { &global.endpoints } else { &global.nodes };
        if nodes.is_empty() {
            return Err(
                Fault::usage("--insecure needs to know which node is meant: give --nodes ADDRESS").into()
            );
        }
        let targets = targets(&[], nodes)?;
        let asker = Asker { insecure: true, ..Asker::default() };
        Ok(Self::with(targets, tls::insecure()?, asker, fingerprints.to_vec()))
    }

    fn with(
        targets: Vec<Target>,
        tls: rustls::ClientConfig,
        asker: Asker,
        fingerprints: Vec<String>,
    ) -> Self {
        let dialer = Dialer { tls: Arc::new(tls), asker, fingerprints, said: AtomicBool::new(false) };
        Self { targets, dialer: Arc::new(dialer), failed: AtomicBool::new(false) }
    }

    /// More than one node is meant.
    pub(crate) fn is_plural(&self) -> bool {
        self.targets.len() > 1
    }

    /// Connects to the one node that is meant.
    ///
    /// # Errors
    /// Several nodes are meant, or it cannot be reached.
    pub(crate) async fn only(&self) -> Result<Node> {
        match self.targets.as_slice() {
            [one] => Ok(connect(&self.dialer, one.clone()).await?),
            _ => Err(Fault::usage("this is for one node at a time: give one with --nodes").into()),
        }
    }

    /// Does something with all nodes at once; what failed is said.
    ///
    /// # Errors
    /// When no node has answered.
    pub(crate) async fn each<T, F, Fut>(&self, act: F) -> Result<Vec<(String, T)>>
    where
        T: Send + 'static,
        F: Fn(Node) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for (index, target) in self.targets.iter().cloned().enumerate() {
            let (dialer, act) = (Arc::clone(&self.dialer), act.clone());
            tasks.spawn(async move {
                let name = target.name.clone();
                let done = match connect(&dialer, target).await {
                    Ok(node) => act(node).await,
                    Err(fault) => Err(fault),
                };
                (index, name, done)
            });
        }
        let mut all = tasks.join_all().await;
        all.sort_by_key(|(index, ..)| *index);
        let mut answers = Vec::new();
        for (_, name, done) in all {
            match done {
                Ok(answer) => answers.push((name, answer)),
                Err(fault) => self.fail(&fault),
            }
        }
        if answers.is_empty() { Err(say::Said.into()) } else { Ok(answers) }
    }

    /// One question with one answer, to all nodes at once.
    ///
    /// # Errors
    /// As [`Self::each`].
    pub(crate) async fn ask<T, F, Fut>(&self, method: &'static str, call: F) -> Result<Vec<(String, T)>>
    where
        T: Send + 'static,
        F: Fn(Node) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        self.each(move |node| {
            let call = call.clone();
            async move {
                let answer = call(node.clone()).await;
                answer.map(Response::into_inner).map_err(|status| node.fault(method, &status))
            }
        })
        .await
    }

    /// One question with a stream of answers, to all nodes at once; each message is handled as it comes.
    ///
    /// # Errors
    /// What the handler says; [`say::Said`] when a node failed.
    pub(crate) async fn follow<T, F, Fut>(
        &self,
        method: &'static str,
        open: F,
        mut handle: impl FnMut(&str, T) -> Result<()>,
    ) -> Result<()>
    where
        T: Send + 'static,
        F: Fn(Node) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Response<Streaming<T>>, Status>> + Send + 'static,
    {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        for target in self.targets.iter().cloned() {
            let (dialer, open, sender) = (Arc::clone(&self.dialer), open.clone(), sender.clone());
            tokio::spawn(async move {
                let name = target.name.clone();
                if let Err(fault) = forward(&dialer, target, method, open, &sender).await {
                    // Nobody listens any more: the command is over.
                    drop(sender.send((name, Err(fault))).await);
                }
            });
        }
        drop(sender);
        while let Some((name, message)) = receiver.recv().await {
            match message {
                Ok(message) => handle(&name, message)?,
                Err(fault) => self.fail(&fault),
            }
        }
        self.verdict()
    }

    /// Says what went wrong with one node.
    pub(crate) fn fail(&self, fault: &Fault) {
        say::fault(fault);
        self.failed.store(true, Ordering::Relaxed);
    }

    /// The end of a command.
    ///
    /// # Errors
    /// [`say::Said`] when a node failed.
    pub(crate) fn verdict(&self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) { Err(say::Said.into()) } else { Ok(()) }
    }
}

async fn connect(dialer: &Arc<Dialer>, target: Target) -> Result<Node, Fault> {
    let (channel, heard) = dialer.channel(&target.dial).await?;
    let endpoints = target.dial;
    Ok(Node {
        name: target.name,
        endpoints,
        channel,
        header: target.header,
        asker: dialer.asker.clone(),
        heard,
    })
}

async fn forward<T, F, Fut>(
    dialer: &Arc<Dialer>,
    target: Target,
    method: &'static str,
    open: F,
    sender: &mpsc::Sender<(String, Result<T, Fault>)>,
) -> Result<(), Fault>
where
    F: Fn(Node) -> Fut,
    Fut: Future<Output = Result<Response<Streaming<T>>, Status>>,
{
    let node = connect(dialer, target).await?;
    let stream = open(node.clone()).await.map_err(|status| node.fault(method, &status))?;
    let mut stream = stream.into_inner();
    while let Some(message) = stream.message().await.map_err(|status| node.fault(method, &status))? {
        if sender.send((node.name.clone(), Ok(message))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Which nodes are meant and how each is reached.
fn targets(endpoints: &[String], nodes: &[String]) -> Result<Vec<Target>, Fault> {
    let parse = |list: &[String]| -> Result<Vec<Endpoint>, Fault> {
        list.iter().map(|text| Endpoint::parse(text).map_err(Fault::usage)).collect()
    };
    let endpoints = parse(endpoints)?;
    if nodes.is_empty() {
        let first = endpoints.first().map(|first| first.host.clone());
        return Ok(first.map(|name| Target { name, dial: endpoints, header: None }).into_iter().collect());
    }
    let mut targets: Vec<Target> = Vec::new();
    for (text, node) in nodes.iter().zip(parse(nodes)?) {
        // Its port is not always written: 10.0.0.2 means the endpoint 10.0.0.2:50001.
        let bare = Endpoint::parse(text).is_ok_and(|parsed| parsed.host == text.trim());
        let itself = endpoints.iter().find(|one| **one == node || bare && one.host == node.host);
        let target = match itself {
            Some(endpoint) => Target { name: text.clone(), dial: vec![endpoint.clone()], header: None },
            None if endpoints.is_empty() => Target { name: text.clone(), dial: vec![node], header: None },
            None => {
                let value =
                    text.parse().map_err(|_| Fault::usage(format!("{text:?} is no name of a node")))?;
                Target { name: text.clone(), dial: endpoints.clone(), header: Some(value) }
            }
        };
        if !targets.iter().any(|other| other.name == target.name) {
            targets.push(target);
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_node_that_is_an_endpoint_is_dialled_itself_and_another_one_is_named() {
        let targets =
            targets(&list(&["10.0.0.2:7", "10.0.0.3"]), &list(&["10.0.0.3", "10.0.0.2", "web"])).unwrap();
        let shown: Vec<(&str, usize, bool)> =
            targets.iter().map(|t| (t.name.as_str(), t.dial.len(), t.header.is_some())).collect();
        assert_eq!(shown, [("10.0.0.3", 1, false), ("10.0.0.2", 1, false), ("web", 2, true)]);
        assert_eq!(targets[1].dial[0].port, 7);
    }

    #[test]
    fn without_nodes_the_endpoints_are_ways_to_one_node_and_without_endpoints_nodes_are_dialled() {
        let one = targets(&list(&["a", "b"]), &[]).unwrap();
        assert_eq!((one.len(), one[0].dial.len(), one[0].name.as_str()), (1, 2, "a"));
        let two = targets(&[], &list(&["a:7", "b", "b"])).unwrap();
        assert_eq!(two.len(), 2);
        assert!(two.iter().all(|target| target.dial.len() == 1 && target.header.is_none()));
    }
}
