//! Stands in for PID 1: its four sockets, with what they were asked for.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

#[derive(Clone)]
pub(crate) struct Init(Arc<Shared>);

struct Shared {
    root: PathBuf,
    asked: Mutex<Vec<(String, Value)>>,
    events: Mutex<Vec<Value>>,
    happened: Condvar,
    kubelet: Mutex<String>,
    config: Mutex<String>,
    /// What a config that was applied makes of the node's.
    then: Mutex<Option<Value>>,
    /// How long a config takes after that.
    takes: Mutex<Duration>,
    /// A request that is never answered.
    unanswered: Mutex<String>,
}

impl Init {
    pub(crate) fn start(root: &Path) -> Self {
        let init = Self(Arc::new(Shared {
            root: root.to_owned(),
            asked: Mutex::default(),
            events: Mutex::new(vec![json!({"seq": 1, "at_ms": 5, "kind": "node", "text": "init 0.1.0"})]),
            happened: Condvar::new(),
            kubelet: Mutex::new("up".to_owned()),
            config: Mutex::new("version: v1alpha1\n".to_owned()),
            then: Mutex::default(),
            takes: Mutex::default(),
            unanswered: Mutex::default(),
        }));
        for role in ["maintenance", "reader", "operator", "admin"] {
            let listener = UnixListener::bind(root.join(format!("run/podium/api/init-{role}.sock"))).unwrap();
            let init = init.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (init, stream) = (init.clone(), stream.unwrap());
                    // A client that goes in the middle is no fault.
                    std::thread::spawn(move || drop(init.talk(role, stream)));
                }
            });
        }
        init
    }

    /// All requests of that name: by whom, and which.
    pub(crate) fn asked(&self, name: &str) -> Vec<(String, Value)> {
        let asked = self.0.asked.lock().unwrap();
        asked.iter().filter(|(_, request)| request["request"] == name).cloned().collect()
    }

    pub(crate) fn kubelet_is(&self, state: &str) {
        *self.0.kubelet.lock().unwrap() = state.to_owned();
        self.happens("service", Some("kubelet"), state);
    }

    pub(crate) fn happens(&self, kind: &str, service: Option<&str>, text: &str) {
        let mut events = self.0.events.lock().unwrap();
        let seq = events.len() + 1;
        events.push(json!({"seq": seq, "at_ms": 10 * seq, "kind": kind, "service": service.unwrap_or_default(), "state": service.map_or("", |_| text), "text": text}));
        self.0.happened.notify_all();
    }

    /// The next config that is applied makes the node's this one.
    pub(crate) fn then(&self, config: &Value) {
        *self.0.then.lock().unwrap() = Some(config.clone());
    }

    /// A config that is applied from now on takes so long once it is in use: PID 1 starts services, and disks are slow.
    pub(crate) fn takes(&self, time: Duration) {
        *self.0.takes.lock().unwrap() = time;
    }

    /// This request is not answered any more.
    pub(crate) fn never_answers(&self, request: &str) {
        *self.0.unanswered.lock().unwrap() = request.to_owned();
    }

    fn talk(&self, role: &str, stream: UnixStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            let request: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(request["version"], 1, "{request}");
            self.0.asked.lock().unwrap().push((role.to_owned(), request.clone()));
            let is_unanswered = request["request"] == *self.0.unanswered.lock().unwrap();
            match request["request"].as_str().unwrap() {
                // Until its client goes.
                _ if is_unanswered => {}
                "version" => writeln!(
                    stream,
                    r#"{{"ok":true,"podium":"0.1.0","protocol":1,"kernel":"6.1","build_id":"abc","boot":"b"}}"#
                )?,
                "services" => writeln!(stream, "{}", self.services())?,
                "events" => self.tell(&mut stream, &request)?,
                "service" if request["name"] == "kubelet" => writeln!(stream, r#"{{"ok":true}}"#)?,
                "service" => writeln!(
                    stream,
                    r#"{{"ok":false,"error":"there is no service \"x\"","remedy":"there is: kubelet"}}"#
                )?,
                "config get" => {
                    let config = self.0.config.lock().unwrap().clone();
                    writeln!(
                        stream,
                        "{}",
                        json!({"ok": true, "source": "STATE", "generation": 1, "config": config})
                    )?;
                }
                "config apply" => {
                    writeln!(stream, r#"{{"ok":true,"send":true}}"#)?;
                    let mut config = String::new();
                    reader.read_to_string(&mut config)?;
                    self.take(&config, &request, &mut stream)?;
                }
                "reboot" | "power off" | "reset" => writeln!(stream, r#"{{"ok":true}}"#)?,
                other => writeln!(
                    stream,
                    "{}",
                    json!({"ok": false, "error": format!("unknown request {other:?}")})
                )?,
            }
            line.clear();
        }
        Ok(())
    }

    fn services(&self) -> Value {
        let kubelet = self.0.kubelet.lock().unwrap().clone();
        json!({"ok": true, "now_ms": 9000, "services": [
            {"service": "kubelet", "wanted": "up", "state": kubelet, "since_ms": 1000, "until_ms": null, "pid": 7,
                "restarts": 0, "deaths": []},
            {"service": "pki", "wanted": "up", "state": "up", "since_ms": 900, "until_ms": null, "pid": null,
                "restarts": 0, "deaths": []},
        ]})
    }

    fn tell(&self, stream: &mut UnixStream, request: &Value) -> std::io::Result<()> {
        let mut events = self.0.events.lock().unwrap();
        writeln!(stream, "{}", json!({"ok": true, "boot": "b", "last": events.len()}))?;
        let mut told = 0;
        loop {
            for event in events.iter().skip(told) {
                writeln!(stream, "{event}")?;
            }
            told = events.len();
            if request["follow"] != true {
                return Ok(());
            }
            events = self.0.happened.wait(events).unwrap();
        }
    }

    fn take(&self, config: &str, request: &Value, stream: &mut UnixStream) -> std::io::Result<()> {
        if config.contains("wrong") {
            writeln!(stream, r#"{{"problem":"line 1: machine.wrong: unknown key","severity":"error"}}"#)?;
            return writeln!(
                stream,
                r#"{{"ok":false,"error":"the config has 1 error","remedy":"mend them; nothing has changed"}}"#
            );
        }
        writeln!(stream, r#"{{"problem":"machine: warning: doubtful","severity":"warning"}}"#)?;
        writeln!(stream, r#"{{"diff":"+ machine.env.A: \"1\""}}"#)?;
        if request["dry_run"] == true {
            return writeln!(stream, r#"{{"ok":true,"result":"dry run","mode":"auto","needsReboot":null}}"#);
        }
        if let Some(then) = self.0.then.lock().unwrap().take() {
            put_config(&self.0.root, &then);
        }
        *self.0.config.lock().unwrap() = config.to_owned();
        std::thread::sleep(*self.0.takes.lock().unwrap());
        self.happens("config", None, "config: applied");
        let is_reboot = request["mode"] == "reboot";
        let result = if is_reboot || request["mode"] == "staged" { "staged" } else { "applied" };
        writeln!(stream, "{}", json!({"ok": true, "result": result, "generation": 2, "reboot": is_reboot}))
    }
}

/// As PID 1 makes a config known.
pub(crate) fn put_config(root: &Path, config: &Value) {
    let aside = root.join("run/podium/.config.json.new");
    std::fs::write(&aside, config.to_string()).unwrap();
    std::fs::rename(aside, root.join("run/podium/config.json")).unwrap();
}
