//! The prober between a PID 1 that listens and a service that answers as a test says.

use crate::node::{Apid, LIMIT, Node};
use podium_init::clock::Time;
use podium_init::notices::{Notice, parse};
use podium_init::paths;
use podium_init::services::{Health, Limits, Probe, Readiness, Restart, Scope, Service, Stop};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the prober has said: when it asked, and what was wrong.
type Said = (Time, Option<String>);

/// PID 1's ends, and the service's.
pub(crate) struct World {
    notices: UnixDatagram,
    events: UnixStream,
    is_well: Arc<AtomicBool>,
    _apid: Apid,
}

impl World {
    /// With a prober that follows the events of PID 1.
    pub(crate) fn new(node: &Node) -> Self {
        let is_well = Arc::new(AtomicBool::new(true));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/healthz", listener.local_addr().unwrap());
        std::thread::spawn({
            let is_well = Arc::clone(&is_well);
            move || {
                for stream in listener.incoming() {
                    answer(stream.unwrap(), is_well.load(Ordering::SeqCst));
                }
            }
        });
        let below = |path: &str| node.root().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(below(paths::SERVICES)).unwrap();
        let description = serde_json::to_vec(&service(url)).unwrap();
        std::fs::write(below(paths::SERVICES).join("kubelet.json"), description).unwrap();
        let control = UnixListener::bind(below(paths::CONTROL_SOCKET)).unwrap();
        let path = node.root().join("notify");
        let notices = UnixDatagram::bind(&path).unwrap();
        notices.set_read_timeout(Some(LIMIT)).unwrap();
        let apid = node.probe(&path);
        let (events, _) = control.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(&events).read_line(&mut asked).unwrap();
        assert!(asked.contains("\"events\"") && asked.contains("\"follow\":true"), "{asked}");
        let mut world = Self { notices, events, is_well, _apid: apid };
        world.tell(r#"{"ok":true,"last":0}"#);
        world
    }

    /// Whether the service answers well from now on.
    pub(crate) fn is_well(&self, is_well: bool) {
        self.is_well.store(is_well, Ordering::SeqCst);
    }

    /// One line of PID 1's events.
    pub(crate) fn tell(&mut self, line: &str) {
        self.events.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next word on the service's health.
    pub(crate) fn next(&self) -> Said {
        loop {
            let mut message = [0; 4096];
            let length = self.notices.recv(&mut message).unwrap();
            for notice in parse(&message[..length]) {
                if let Notice::Health { service, asked, failure } = notice {
                    assert_eq!(service, "kubelet");
                    return (asked, failure.map(str::to_owned));
                }
            }
        }
    }
}

/// The clock that the prober tells by.
pub(crate) fn since_boot() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
}

fn answer(mut stream: std::net::TcpStream, is_well: bool) {
    let mut request = [0; 1024];
    let _length = stream.read(&mut request).unwrap();
    let status = if is_well { "200 OK" } else { "500 Internal Server Error" };
    // The prober hears no more than the first line.
    drop(stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()));
}

fn service(url: String) -> Service {
    Service {
        id: "kubelet".into(),
        argv: vec!["/usr/bin/kubelet".into()],
        env: Vec::new(),
        needs: Vec::new(),
        readiness: Readiness::Notify,
        ready_limit: None,
        looked_after: false,
        restart: Restart::Always,
        cgroup: "podium/kubelet".into(),
        oom_score_adj: 0,
        nofile: 1024,
        user: None,
        limits: Limits { memory_min: 0, memory_max: None, pids_max: None },
        stop: Stop { signal: 15, limit: Duration::from_secs(1), scope: Scope::Group },
        health: Some(Health {
            probe: Probe::Http(url),
            interval: Duration::from_millis(20),
            timeout: LIMIT,
            failures: 3,
        }),
    }
}
