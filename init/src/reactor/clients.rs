//! The control sockets' clients: connections in, request lines out, answers back; each bounded in bytes and time.
//!
//! One socket is root's, the others are the network API's, one a role and one for maintenance. What each role takes of
//! room is missed by no other.
//!
//! A client that says half a line, says too much, or does not read what it is told is let go; none of them can make
//! the loop wait. One that follows events has the ring of events as its queue. What a line means is decided in
//! `requests.rs`.

use crate::sys::poll::For;
use crate::sys::stream::{Listener, Moved, Peer, Stream};
use podium_init::clock::Time;
use podium_init::control::{
    self, CLIENTS_MAX, FOLLOWERS_MAX, LINE_LIMIT, LINE_MAX, OUTPUT_MAX, READ_LIMIT, ROLE_CLIENTS_MAX,
    ROLE_FOLLOWERS_MAX, Refusal, Role, refusal,
};
use podium_init::events::Ring;
use podium_init::services::API_USER;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Connections taken a turn.
const ACCEPTS_A_TURN: usize = 16;
/// Bytes taken from one client a turn.
const READ_A_TURN: usize = 4096;
/// Events are made to lines until this much waits to be read.
const EVENTS_AHEAD: usize = 8 << 10;
/// Descriptors that stay free for services: a socket and a pipe for each that lost its own, and what a start needs.
const SPARE_DESCRIPTORS: u64 = 16;
/// And for the network API's clients: those that root's may need.
const SPARE_FOR_ROOT: u64 = SPARE_DESCRIPTORS + CLIENTS_MAX as u64;
/// No descriptor is left for a client: looked at again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// The listeners and everybody who is connected.
#[derive(Debug)]
pub(super) struct Clients {
    listeners: Vec<(Role, Listener)>,
    clients: Vec<Client>,
    paused_until: Option<Time>,
}

/// One connection.
#[derive(Debug)]
struct Client {
    /// `None` once it was handed to a job, or is to be let go.
    stream: Option<Stream>,
    peer: Peer,
    role: Role,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The last write has moved less than there was.
    blocked: bool,
    /// It will say no more.
    ended: bool,
    /// It is let go once it has read everything.
    closing: bool,
    following: Option<Following>,
    /// By then its line must be whole, or something be read of what it is told.
    until: Option<Time>,
}

/// Events that a client is told.
#[derive(Debug, Clone, Copy)]
struct Following {
    /// The last one it was told.
    after: u64,
    /// And those to come.
    endless: bool,
}

impl Clients {
    /// Listens. Without a socket (no descriptor, no /run) the node runs, and cannot be asked.
    pub(super) fn listen() -> Self {
        let bind = |role: Role| {
            let group = (role != Role::Root).then_some(API_USER);
            let listener = Listener::bind(role.socket(), group).map(|listener| (role, listener));
            listener.map_err(|error| log::error!("{error}; nobody can ask here as {}", role.word())).ok()
        };
        let listeners = Role::ALL.into_iter().filter_map(bind).collect();
        Self { listeners, clients: Vec::new(), paused_until: None }
    }

    /// What to wait for; [`Self::receive`] takes the answers in the same order, and then those of the open
    /// [`Self::listeners`].
    pub(super) fn connected(&self) -> impl Iterator<Item = (BorrowedFd<'_>, For)> {
        self.clients.iter().filter_map(|client| Some((client.stream()?, client.waits_for())))
    }

    /// Where clients come, and whether one may be taken there now.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.listeners.iter().map(|(role, listener)| (listener.as_fd(), self.is_open(*role)))
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.clients.iter().filter_map(|client| client.until).chain(self.paused_until).min()
    }

    /// A whole line waits, and nothing will wake the loop for it.
    pub(super) fn has_line(&self) -> bool {
        self.clients.iter().any(|client| client.is_idle() && client.line_end().is_some())
    }

    /// How many there are, new ones at the end.
    pub(super) fn count(&self) -> usize {
        self.clients.len()
    }

    /// Reads from those that are ready, and takes new ones.
    pub(super) fn receive(&mut self, mut ready: impl Iterator<Item = bool>, now: Time) {
        for client in self.clients.iter_mut().filter(|client| client.stream.is_some()) {
            if ready.next().unwrap_or(false) {
                client.receive();
            }
        }
        let listening: Vec<Role> = self.open().map(|(role, _)| *role).collect();
        for role in listening {
            if ready.next().unwrap_or(false) {
                self.accept(role, now);
            }
        }
    }

    /// The next request line of a client, if it is its turn; too long a one is answered here.
    pub(super) fn line(&mut self, place: usize) -> Option<Vec<u8>> {
        let client = self.clients.get_mut(place)?;
        if !client.is_idle() {
            return None;
        }
        match client.line_end() {
            Some(end) if end <= LINE_MAX => {
                let rest = client.input.split_off(end + 1);
                let mut line = std::mem::replace(&mut client.input, rest);
                line.truncate(end);
                Some(line)
            }
            Some(_) => {
                client.dismiss(&control::too_long());
                None
            }
            None if client.input.len() > LINE_MAX => {
                client.dismiss(&control::too_long());
                None
            }
            None => None,
        }
    }

    /// Who asks.
    pub(super) fn peer(&self, place: usize) -> Option<Peer> {
        self.clients.get(place).map(|client| client.peer)
    }

    /// By which socket he has come.
    pub(super) fn role(&self, place: usize) -> Option<Role> {
        self.clients.get(place).map(|client| client.role)
    }

    /// Tells a client something; more lines may follow.
    pub(super) fn tell(&mut self, place: usize, line: &str, now: Time) {
        if let Some(client) = self.clients.get_mut(place) {
            client.tell(line, now);
        }
    }

    /// Whether one more client of this role may follow events for ever.
    pub(super) fn may_follow(&self, role: Role) -> bool {
        let endless = |client: &&Client| {
            client.role == role && client.following.is_some_and(|following| following.endless)
        };
        let most = if role == Role::Root { FOLLOWERS_MAX } else { ROLE_FOLLOWERS_MAX };
        self.clients.iter().filter(endless).count() < most
    }

    /// From now on the client is told all events after number `after`; unless `endless`, only those that are there.
    pub(super) fn follow(&mut self, place: usize, after: u64, endless: bool) {
        if let Some(client) = self.clients.get_mut(place) {
            client.following = Some(Following { after, endless });
            // It is not waited for; what it is told sets a limit again.
            client.until = None;
        }
    }

    /// Takes the connection out, for a job. `None`, and it stays, when the client has said more than its line: that
    /// would be lost.
    pub(super) fn hand_over(&mut self, place: usize) -> Option<OwnedFd> {
        let client = self.clients.get_mut(place)?;
        if !client.input.is_empty() {
            return None;
        }
        client.stream.take().map(OwnedFd::from)
    }

    /// Lets go of those whose time is over.
    pub(super) fn expire(&mut self, now: Time) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        for client in self.clients.iter_mut().filter(|client| client.until.is_some_and(|until| until <= now))
        {
            if client.output.is_empty() && !client.input.is_empty() {
                let error = format!("no whole line within {} s", LINE_LIMIT.as_secs());
                client.dismiss(&Refusal::new(error, "end a request with a line feed"));
                client.send(now);
            }
            client.stream = None;
        }
        self.clients.retain(|client| client.stream.is_some());
    }

    /// Makes lines of the events that clients follow, writes what they take, and lets go of those that are done.
    pub(super) fn send(&mut self, ring: &Ring, now: Time) {
        for client in &mut self.clients {
            // As often as the ring is long, at most: then all is told, or the client has to read first.
            loop {
                client.take_events(ring, now);
                client.send(now);
                let more = client.following.is_some_and(|following| ring.after(following.after).is_some());
                if !more || !client.output.is_empty() || client.stream.is_none() {
                    break;
                }
            }
        }
        self.clients.retain(|client| client.stream.is_some());
    }

    /// The listeners by which a client may be taken.
    fn open(&self) -> impl Iterator<Item = &(Role, Listener)> {
        self.listeners.iter().filter(move |(role, _)| self.is_open(*role))
    }

    fn is_open(&self, role: Role) -> bool {
        let most = if role == Role::Root { CLIENTS_MAX } else { ROLE_CLIENTS_MAX };
        self.paused_until.is_none() && self.clients.iter().filter(|client| client.role == role).count() < most
    }

    fn accept(&mut self, role: Role, now: Time) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some((_, listener)) = self.open().find(|(listens, _)| *listens == role) else { return };
            match listener.accept() {
                Ok(Some(stream)) => self.clients.extend(Client::welcome(stream, role, now)),
                Ok(None) => return,
                // Said by nobody: it would be said each second, and a node without descriptors has said worse.
                Err(_) => self.paused_until = Some(now + PAUSE),
            }
        }
    }
}

impl Client {
    /// Takes root's connections, and by the network API's sockets also that one's; another is told why not.
    fn welcome(mut stream: Stream, role: Role, now: Time) -> Option<Self> {
        let spare = if role == Role::Root { SPARE_DESCRIPTORS } else { SPARE_FOR_ROOT };
        let is_known = |uid: u32| uid == 0 || (role != Role::Root && uid == API_USER);
        let why_not = match stream.peer() {
            Ok(Peer { uid, .. }) if !is_known(uid) => {
                Some(Refusal::new("only root may ask here", "run it as root"))
            }
            Ok(_) if stream.descriptors_left() > spare => None,
            Ok(_) => Some(Refusal::new(
                "PID 1 has no descriptor to spare",
                "close other connections, or raise its limit of open files",
            )),
            Err(error) => Some(Refusal::new(error.to_string(), "")),
        };
        if let Some(why_not) = why_not {
            // A fresh connection has room for a line; a client that is gone wants none.
            stream.write(refusal(&why_not).as_bytes());
            return None;
        }
        let peer = stream.peer().ok()?;
        Some(Self {
            stream: Some(stream),
            peer,
            role,
            input: Vec::new(),
            output: Vec::new(),
            blocked: false,
            ended: false,
            closing: false,
            following: None,
            until: Some(now + LINE_LIMIT),
        })
    }

    fn stream(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    fn waits_for(&self) -> For {
        match (self.output.is_empty(), self.ended) {
            // Who does not read what it is told is not heard.
            (false, _) => For::Writing,
            (true, false) => For::Reading,
            (true, true) => For::End,
        }
    }

    /// Its next line may be answered.
    fn is_idle(&self) -> bool {
        self.stream.is_some() && self.output.is_empty() && self.following.is_none() && !self.closing
    }

    fn line_end(&self) -> Option<usize> {
        self.input.iter().position(|byte| *byte == b'\n')
    }

    /// Takes what has come; or learns that it can be told more, or that it is gone.
    fn receive(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        match (self.output.is_empty(), self.ended) {
            (false, _) => self.blocked = false,
            (true, true) => self.stream = None,
            (true, false) => {
                let mut buffer = [0; READ_A_TURN];
                match stream.read(&mut buffer) {
                    // Who follows events has nothing more to say.
                    Moved::Some(_) if self.following.is_some() => {}
                    Moved::Some(count) => {
                        self.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    }
                    Moved::Blocked => {}
                    Moved::Ended => self.ended = true,
                }
            }
        }
    }

    fn tell(&mut self, line: &str, now: Time) {
        if self.output.is_empty() {
            self.until = Some(now + READ_LIMIT);
        }
        if self.output.len() + line.len() > OUTPUT_MAX {
            // It does not read.
            self.stream = None;
            return;
        }
        self.output.extend_from_slice(line.as_bytes());
    }

    /// The last thing it is told.
    fn dismiss(&mut self, why: &Refusal) {
        self.input = Vec::new();
        self.output.extend_from_slice(refusal(why).as_bytes());
        self.closing = true;
    }

    fn take_events(&mut self, ring: &Ring, now: Time) {
        if self.following.is_some_and(|following| ring.gap(following.after).is_some()) {
            // It was too slow for the ring. When it comes back it is told what it has missed.
            self.stream = None;
            return;
        }
        while let Some(following) = self.following
            && self.output.len() < EVENTS_AHEAD
        {
            match ring.after(following.after) {
                Some(event) => {
                    self.tell(&event.to_line(), now);
                    self.following = Some(Following { after: event.seq, ..following });
                }
                None if following.endless => return,
                None => {
                    self.following = None;
                    self.closing = true;
                }
            }
        }
    }

    /// Writes what it takes, and decides what it has time for.
    fn send(&mut self, now: Time) {
        let Some(stream) = &mut self.stream else { return };
        if !self.output.is_empty() && !self.blocked {
            match stream.write(&self.output) {
                Moved::Some(count) => {
                    self.output.drain(..count.min(self.output.len()));
                    self.until = Some(now + READ_LIMIT);
                    // Below: all of it, or the rest waits for room.
                    self.blocked = !self.output.is_empty();
                    if self.output.is_empty() {
                        self.output = Vec::new();
                        self.until = self.following.is_none().then_some(now + LINE_LIMIT);
                    }
                }
                Moved::Blocked => self.blocked = true,
                Moved::Ended => self.stream = None,
            }
        }
        let heard = self.ended && self.following.is_none() && self.line_end().is_none();
        if self.output.is_empty() && (self.closing || heard) {
            self.stream = None;
        }
    }
}

#[cfg(test)]
mod tests;
