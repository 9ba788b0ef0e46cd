//! `apid api`: the node's API for the network, gRPC over TLS 1.3.
//!
//! It runs as a user of its own without any right, takes what strangers send, and can do nothing itself: PID 1 and
//! `apid serve` answer it over one socket a role, and the socket is chosen by the role of whoever called. While the
//! config has no CA nothing is listened to; while there is no config, anybody may see the version and give one.
//!
//! In the order of a call: `listen` (who may connect at all), `tls` (who it is), `connection` (how much it may cost),
//! `gate` (what it may do), `machine` and `state` (the answer), `upstream` and `hub` (from where), `weight` (how much of
//! it may wait for slow readers).

mod actions;
mod apply;
mod audit;
mod caller;
mod connection;
mod content;
mod events;
mod facts;
mod feed;
mod fresh;
mod gate;
mod hub;
mod limits;
mod listen;
mod machine;
mod parts;
mod pieces;
mod procfs;
mod request;
mod resources;
mod sandbox;
mod services;
mod state;
mod tls;
mod upstream;
mod weight;

use crate::node::{Mode, Setup};
use crate::places::Places;
use crate::say;
use anyhow::{Result, bail};
use facts::Facts;
use podium_wire::PORT;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use upstream::{Purpose, Target, Upstream};

/// Between attempts to reach `apid serve`, which starts at about the same time.
const AGAIN: Duration = Duration::from_millis(200);

/// Serves until it cannot, or until the helper says that there is to be no API any more: the service's next life
/// waits, without a port, for a config that wants one.
pub(crate) async fn run(places: Places, listen: Option<SocketAddr>) -> Result<()> {
    let upstream = Upstream::new(&places);
    let (sender, mut setup) = watch::channel(Arc::new(Setup::default()));
    tokio::spawn(follow(upstream.clone(), sender));
    setup.changed().await?;
    if setup.borrow().mode == Mode::Off {
        say::ready();
        say::line(
            "nothing is listened to: the config has no machine.ca, or there is none and none is taken from anybody",
        );
        setup.wait_for(|setup| setup.mode != Mode::Off).await?;
    }
    let listener = listen::bind(listen, PORT)?;
    let identity = tls::Identity::new(upstream.clone(), setup.clone())?;
    identity.renew().await.inspect_err(tls::say_unusable)?;
    let facts = Arc::new(Facts::new(places.clone(), upstream, setup.clone()));
    sandbox::enter(&places);
    say::ready();
    say::line(&format!("the API listens at {}", listener.local_addr()?));
    // Each connection has a clone; when none is left there is nothing to wait for.
    let (connected, mut last) = mpsc::channel::<Infallible>(1);
    let serving = async {
        tokio::select! {
            ended = listen::serve(listener, identity.clone(), facts, connected) => ended?,
            // Drops the listener.
            over = setup.wait_for(|setup| setup.mode == Mode::Off && !setup.lost) => drop(over?),
        }
        // Whose call has closed the port is still told so.
        drop(timeout(connection::MAINTENANCE_LAST_WORDS + AGAIN, last.recv()).await);
        bail!("there is to be no API any more: the port is closed")
    };
    tokio::select! {
        ended = serving => ended,
        never = identity.keep() => Ok(never),
    }
}

/// Keeps up with what the node wants the API to be. While `apid serve` is away, what was known last holds; but nobody
/// is taken for the one who gives the first config, since there may be one by now: the port stays with this process,
/// which could not open it again, and lets nobody in. Its key stays as well, whose fingerprint somebody has read.
async fn follow(upstream: Upstream, setup: watch::Sender<Arc<Setup>>) {
    let mut said = String::new();
    loop {
        let ended = follow_once(&upstream, &setup).await;
        let why = ended.err().map_or_else(|| "it has closed".to_owned(), |error| format!("{error}"));
        if setup.is_closed() {
            return;
        }
        setup.send_if_modified(|known| {
            let is_open = known.mode == Mode::Maintenance;
            if is_open {
                *known = Arc::new(Setup { mode: Mode::Off, lost: true, ..(**known).clone() });
            }
            is_open
        });
        if said != why {
            say::line(&format!("setup: {why}"));
            said = why;
        }
        sleep(AGAIN).await;
    }
}

async fn follow_once(
    upstream: &Upstream,
    setup: &watch::Sender<Arc<Setup>>,
) -> Result<(), upstream::Refused> {
    let request = serde_json::json!({"request": "setup", "watch": true});
    let mut lines = upstream.open(Target::NodeReader, Purpose::Feed, &request).await?;
    while let Some(line) = lines.next(None).await? {
        let now: Setup = serde_json::from_value(line).map_err(upstream::Refused::garbled)?;
        setup.send_if_modified(|before| {
            let is_other = **before != now;
            *before = Arc::new(now);
            is_other
        });
    }
    Ok(())
}
