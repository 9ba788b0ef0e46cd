//! `apid serve`: looks at the node when somebody asks, and as long as somebody watches.
//!
//! One task owns all that is kept between looks; the socket's clients ask it through a bounded queue, and those that
//! asked meanwhile are served by one look. While nobody watches, nothing is looked at. While somebody does, looks are
//! quick as long as a pod is on its way, slow otherwise, and a change of the manifests brings the next one at once.

use crate::changes::{self, Changes};
use crate::klog;
use crate::kubelet::{DEFAULT_ADDRESS, Kubelet};
use crate::manifests::{self, Directory};
use crate::node;
use crate::places::Places;
use crate::say;
use crate::socket;
use crate::status::{Findings, PodStatus, Seen, derive};
use crate::tail::{Line, Tail};
use anyhow::{Context, Result};
use inotify::WatchMask;
use podium_init::paths;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// Between looks while a pod is on its way: soon enough for a person, and a thousandth of what starting a pod costs.
const QUICK: Duration = Duration::from_millis(200);
/// Between looks otherwise: the kubelet itself notices a container's end within a second.
const SLOW: Duration = Duration::from_secs(1);
/// A pod that has not settled for so long (it crashes again and again) is looked at slowly as well.
const QUICK_FOR: Duration = Duration::from_secs(30);
/// An answer that is not older than this is given again to who did not ask for a fresh look.
const FRESH: Duration = Duration::from_secs(1);
/// As many questions wait as there may be clients; further ones wait at their socket.
const MOST_QUESTIONS: usize = 64;

/// What was seen at a look; one line of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Snapshot {
    /// Sorted by id.
    pub(crate) pods: Vec<PodStatus>,
    /// `ok`, or why the kubelet does not answer.
    pub(crate) kubelet: String,
}

/// A question for a snapshot.
#[derive(Debug)]
struct Question {
    /// The look must not have begun before.
    not_before: Instant,
    answer: oneshot::Sender<Arc<Snapshot>>,
}

/// How the socket's clients ask.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    questions: mpsc::Sender<Question>,
    changes: watch::Sender<Arc<Snapshot>>,
}

impl Asker {
    /// What the pods do. `refresh`: by a look that begins after this call.
    pub(crate) async fn ask(&self, refresh: bool) -> Result<Arc<Snapshot>> {
        let now = Instant::now();
        let not_before = if refresh { now } else { now.checked_sub(FRESH).unwrap_or(now) };
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { not_before, answer }).await.context("the looking task has ended")?;
        answered.await.context("the looking task has ended")
    }

    /// Is told of each change from now on; while it is kept, the node is looked at.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.changes.subscribe()
    }
}

/// Serves until it cannot.
pub(crate) async fn run(places: Places, kubelet: Option<SocketAddr>) -> Result<()> {
    let socket = places.at(paths::APID_SOCKET);
    let (questions, to_answer) = mpsc::channel(MOST_QUESTIONS);
    let asker = Asker { questions, changes: watch::Sender::new(Arc::default()) };
    let looker = Looker::new(places.clone(), kubelet.unwrap_or(DEFAULT_ADDRESS), asker.changes.clone());
    let listener = socket::listen(&socket)?;
    say::ready();
    tokio::select! {
        never = looker.work(to_answer) => Ok(never),
        ended = node::serve(places, asker.clone()) => ended,
        ended = socket::serve(listener, asker) => ended,
    }
}

/// All that is kept between looks.
#[derive(Debug)]
struct Looker {
    manifests: PathBuf,
    known: PathBuf,
    directory: Directory,
    log: Tail,
    findings: Findings,
    kubelet: Kubelet,
    changes: watch::Sender<Arc<Snapshot>>,
    /// When the last look began.
    looked: Option<Instant>,
    /// When one last showed something else than the one before.
    changed: Instant,
}

impl Looker {
    fn new(places: Places, kubelet: SocketAddr, changes: watch::Sender<Arc<Snapshot>>) -> Self {
        Self {
            manifests: places.at(paths::MANIFESTS),
            known: places.at(paths::STATIC_PODS),
            directory: Directory::default(),
            log: Tail::new(places.kubelet_log()),
            findings: Findings::default(),
            kubelet: Kubelet::new(places, kubelet),
            changes,
            looked: None,
            changed: Instant::now(),
        }
    }

    async fn work(mut self, mut questions: mpsc::Receiver<Question>) {
        let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE | WatchMask::ATTRIB;
        let folder = (self.manifests.clone(), changes::all as fn(&str) -> bool);
        let mut changed = Changes::of(&self.manifests.display().to_string(), SLOW, mask, &[folder]);
        loop {
            let next = self.next_look();
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => self.answer(question).await,
                    None => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.look().await,
                () = changed.next(), if next.is_some() => {
                    self.changed = Instant::now();
                    self.look().await;
                }
            }
        }
    }

    /// When to look without being asked; never while nobody watches.
    fn next_look(&self) -> Option<Instant> {
        let looked = self.looked.filter(|_| self.changes.receiver_count() > 0)?;
        let is_settled = self.changes.borrow().pods.iter().all(PodStatus::is_settled);
        let is_quick = !is_settled && looked.saturating_duration_since(self.changed) < QUICK_FOR;
        Some(looked + if is_quick { QUICK } else { SLOW })
    }

    async fn answer(&mut self, question: Question) {
        if self.looked.is_none_or(|looked| looked < question.not_before) {
            self.look().await;
        }
        // Who asked may have gone meanwhile.
        drop(question.answer.send(self.changes.borrow().clone()));
    }

    /// The kubelet first: what its log says of a pod that is not in its list was written before.
    async fn look(&mut self) {
        self.looked = Some(Instant::now());
        let pods = self.kubelet.pods().await;
        self.directory.look(&self.manifests);
        let (findings, directory) = (&mut self.findings, &self.directory);
        self.log.look(|line| match line {
            Line::Boot => findings.forget(),
            Line::Text(text) => {
                if let Some(news) = klog::read(text) {
                    findings.take(news, directory);
                }
            }
        });
        self.findings.prune(&self.directory, pods.as_deref().ok());
        let why = pods.as_ref().err().map(|error| format!("{error:#}"));
        let seen = Seen {
            directory: &self.directory,
            known: &manifests::known(&self.known),
            kubelet: pods.as_deref().map_err(|_| why.as_deref().unwrap_or_default()),
            findings: &self.findings,
        };
        let now = Snapshot { pods: derive(&seen), kubelet: why.clone().unwrap_or_else(|| "ok".to_owned()) };
        self.tell(now);
    }

    /// Watchers are told of changes only.
    fn tell(&mut self, now: Snapshot) {
        let before = self.changes.borrow().clone();
        if *before == now {
            return;
        }
        self.changed = Instant::now();
        if before.kubelet != now.kubelet {
            say::line(&format!("kubelet: {}", now.kubelet));
        }
        self.changes.send_replace(Arc::new(now));
    }
}
