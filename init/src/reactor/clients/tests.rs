//! Clients on a socket of their own, under a clock that the test sets.

use super::*;
use podium_init::events::Kind;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const NOW: Time = Time::from_secs(100);

struct World {
    dir: tempfile::TempDir,
    clients: Clients,
    ring: Ring,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |role: Role| dir.path().join(role.word()).to_str().unwrap().to_owned();
        let bind = |role: Role| (role, Listener::bind(&path(role), None).unwrap());
        let listeners = Role::ALL.into_iter().map(bind).collect();
        let clients = Clients { listeners, clients: Vec::new(), paused_until: None };
        Self { dir, clients, ring: Ring::default() }
    }

    /// One that the loop knows.
    fn client(&mut self) -> UnixStream {
        self.client_of(Role::Root)
    }

    fn client_of(&mut self, role: Role) -> UnixStream {
        let client = UnixStream::connect(self.dir.path().join(role.word())).unwrap();
        self.turn(NOW);
        client
    }

    /// As the reactor does it, with every source ready; whole lines are answered with themselves.
    fn turn(&mut self, now: Time) -> Vec<String> {
        let ready = vec![true; self.clients.count() + Role::ALL.len()];
        self.clients.receive(ready.into_iter(), now);
        let mut lines = Vec::new();
        for place in 0..self.clients.count() {
            if let Some(line) = self.clients.line(place) {
                let line = String::from_utf8_lossy(&line).into_owned();
                self.clients.tell(place, &format!("{line}\n"), now);
                lines.push(line);
            }
        }
        self.clients.send(&self.ring, now);
        self.clients.expire(now);
        lines
    }

    fn fill(&mut self, count: usize) {
        for n in 0..count {
            self.ring.push(Kind::Node, None, &format!("{n} {}", "x".repeat(400)), NOW);
        }
    }
}

/// Everything until the end of the connection.
fn rest(mut client: UnixStream) -> String {
    let mut text = String::new();
    // A reset after the last line is an end, too.
    drop(client.read_to_string(&mut text));
    text
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn lines_are_answered_one_a_turn_also_when_they_come_together() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(b"one\ntwo\nhalf").unwrap();
    assert_eq!(world.turn(NOW), ["one"]);
    assert!(world.clients.has_line(), "the loop must not wait");
    assert_eq!(world.turn(NOW), ["two"]);
    assert!(!world.clients.has_line());
    assert_eq!(world.turn(NOW), [] as [&str; 0]);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    world.turn(NOW);
    assert_eq!((rest(client).as_str(), world.clients.count()), ("one\ntwo\n", 0));
}

#[test]
fn half_a_line_and_no_line_are_let_go_at_their_limit() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    let (mut half, silent) = (world.client(), world.client());
    half.write_all(b"{\"version\":1").unwrap();
    world.turn(NOW + LINE_LIMIT / 2);
    half.write_all(b",").unwrap();
    world.turn(NOW + LINE_LIMIT - Duration::from_millis(1));
    assert_eq!((world.clients.count(), world.clients.deadline()), (2, Some(NOW + LINE_LIMIT)));
    world.turn(NOW + LINE_LIMIT);
    assert_eq!((world.clients.count(), world.clients.deadline()), (0, None));
    assert!(rest(half).contains("no whole line within 10 s"));
    assert_eq!(rest(silent), "");
}

#[test]
fn a_line_without_an_end_is_refused_at_its_limit() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    let mut client = world.client();
    client.set_nonblocking(true).unwrap();
    let chunk = [b'x'; 4096];
    let mut turns = 0;
    while world.clients.count() > 0 {
        // Full, or refused: the end is seen below.
        drop(client.write(&chunk));
        world.turn(NOW);
        turns += 1;
        assert!(turns <= 2 * LINE_MAX / READ_A_TURN, "read for ever");
    }
    client.set_nonblocking(false).unwrap();
    assert!(rest(client).contains("more than 64 KiB"));
}

#[test]
fn who_does_not_read_is_not_heard_and_is_let_go() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    let mut client = world.client();
    client.set_nonblocking(true).unwrap();
    let line = [[b'x'; 8191].as_slice(), b"\n"].concat();
    let mut answered = 0;
    for _ in 0..1000 {
        drop(client.write(&line));
        answered += world.turn(NOW).len();
    }
    assert!(answered < 500, "{answered} answers of 8 KiB are read by nobody");
    assert_eq!(world.clients.count(), 1);
    world.turn(NOW + READ_LIMIT);
    assert_eq!(world.clients.count(), 0);
}

#[test]
fn events_are_told_whole_and_a_follower_that_sleeps_is_let_go() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    world.fill(60);
    let all = world.client();
    world.clients.follow(0, 0, false);
    world.turn(NOW);
    assert_eq!((rest(all).lines().count(), world.clients.count()), (60, 0));

    let (awake, asleep) = (world.client(), world.client());
    awake.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut awake = std::io::BufReader::new(awake);
    for place in 0..2 {
        world.clients.follow(place, 60, true);
    }
    world.turn(NOW);
    assert_eq!(world.clients.deadline(), None, "nothing to tell, nothing to wake for");
    let mut last = 60;
    for _ in 0..60 {
        world.fill(20);
        world.turn(NOW);
        while last < world.ring.last() {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut awake, &mut line).unwrap();
            last += 1;
            assert!(line.starts_with(&format!("{{\"seq\":{last},")), "{line}");
            world.turn(NOW);
        }
    }
    assert_eq!(world.clients.count(), 1, "one that never reads has missed some and is gone");
    drop((awake, asleep));
    // First the end of what it says, then that it is gone: it might have closed one half only. A program that another
    // test starts has these sockets too until it is executed.
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while world.clients.count() > 0 && std::time::Instant::now() < until {
        world.turn(NOW);
    }
    assert_eq!(world.clients.count(), 0);
}

#[test]
fn no_more_than_the_bound_are_taken_and_the_next_when_one_is_gone() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    let mut all: Vec<UnixStream> = (0..CLIENTS_MAX + 3).map(|_| world.client()).collect();
    world.turn(NOW);
    assert_eq!(world.clients.count(), CLIENTS_MAX);
    assert_eq!(world.clients.connected().count(), CLIENTS_MAX);
    assert_eq!(
        world.clients.listeners().filter(|(_, is_open)| *is_open).count(),
        Role::ALL.len() - 1,
        "root's listener waits"
    );
    all.remove(0);
    world.turn(NOW);
    world.turn(NOW);
    assert_eq!(world.clients.count(), CLIENTS_MAX);
}

#[test]
fn a_connection_with_more_than_its_line_is_not_handed_over() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(b"one\nmore").unwrap();
    world.turn(NOW);
    assert!(world.clients.hand_over(0).is_none());
    let mut client = world.client();
    client.write_all(b"one\n").unwrap();
    world.turn(NOW);
    assert!(world.clients.hand_over(1).is_some());
}

#[test]
fn what_one_role_takes_of_room_is_missed_by_no_other() {
    if !is_root() {
        return eprintln!("not root: nobody is answered");
    }
    let mut world = World::new();
    let readers: Vec<UnixStream> = (0..ROLE_CLIENTS_MAX + 3).map(|_| world.client_of(Role::Reader)).collect();
    assert_eq!(world.clients.count(), ROLE_CLIENTS_MAX);
    for place in 0..world.clients.count() {
        assert_eq!(world.clients.role(place), Some(Role::Reader));
        if place < ROLE_FOLLOWERS_MAX {
            assert!(world.clients.may_follow(Role::Reader));
            world.clients.follow(place, 0, true);
        }
    }
    assert!(!world.clients.may_follow(Role::Reader));
    for role in [Role::Operator, Role::Admin, Role::Root] {
        assert!(world.clients.may_follow(role), "{role:?}");
        let mut client = world.client_of(role);
        client.write_all(b"hello\n").unwrap();
        assert_eq!(world.turn(NOW), ["hello"], "{role:?}");
    }
    drop(readers);
}
