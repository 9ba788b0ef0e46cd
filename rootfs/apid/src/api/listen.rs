//! The port: who may connect at all.

use super::connection;
use super::facts::Facts;
use super::limits::Limits;
use super::tls::Identity;
use crate::node::Mode;
use anyhow::{Context, Result};
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Connections that the kernel keeps until they are taken.
const BACKLOG: u32 = 256;
/// After an error of accept: no descriptor is left, and one comes back when a connection ends.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens: at `address`, or at this port of every address, IPv4 and IPv6.
pub(super) fn bind(address: Option<SocketAddr>, port: u16) -> Result<TcpListener> {
    if let Some(address) = address {
        return at(address).with_context(|| format!("listen at {address}"));
    }
    let all: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
    // A kernel without IPv6.
    at(all)
        .or_else(|_| at((Ipv4Addr::UNSPECIFIED, port).into()))
        .with_context(|| format!("listen at port {port}"))
}

fn at(address: SocketAddr) -> Result<TcpListener> {
    let socket = if address.is_ipv6() {
        let socket = TcpSocket::new_v6()?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        socket
    } else {
        TcpSocket::new_v4()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}

/// Takes connections until it cannot. One too many is closed without a word: a word would cost as much as a client.
/// Each has a clone of `connected`.
pub(super) async fn serve(
    listener: TcpListener,
    identity: Identity,
    facts: Arc<Facts>,
    connected: mpsc::Sender<Infallible>,
) -> Result<()> {
    let limits = Limits::default();
    let epochs = identity.epoch();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let epoch = epochs.borrow().clone();
        let Some(config) = epoch.config.clone() else { continue };
        let Some(place) = limits.enter(peer.ip(), epoch.mode == Mode::Maintenance) else { continue };
        let connection = connection::run(stream, peer, config, place, identity.epoch(), facts.clone());
        let connected = connected.clone();
        tokio::spawn(async move {
            connection.await;
            drop(connected);
        });
    }
}
