//! How an answer looks: tables for people, or each line as it came.
//!
//! Nothing is hidden that a line says of trouble. Names that are not known here are printed as they are, so that an
//! older client can be used with a newer node.

use super::connection::Line;
use super::services::{service, services};
use super::table::{cell, of_objects, stamp, table};
use anyhow::Result;
use podium_init::control::Request;
use serde_json::{Value, json};
use std::io::Write;

/// Prints one answer.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    json: bool,
    /// A table of states was printed before.
    again: bool,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, json: bool) -> Self {
        Self { out, json, again: false }
    }

    /// The first line of an answer.
    pub(super) fn begin(&mut self, request: &Request, line: &Line) -> Result<()> {
        if self.json {
            return self.say(&line.text);
        }
        let answer = &line.value;
        match request {
            Request::Version | Request::ConfigStatus => {
                let object = without_ok(answer);
                self.print(&of_objects(&[object]))
            }
            Request::Services => self.print(&services(answer)),
            Request::ServiceStatus { .. } => self.print(&service(answer)),
            Request::Service { action, .. } => {
                let service = answer.get("service");
                let part = |name: &str| cell(service.and_then(|service| service.get(name)));
                self.say(&format!("{}: {} asked for, now {}", part("service"), action.word(), part("state")))
            }
            Request::Pods => self.print(&pods(answer)),
            Request::ConfigGet => match answer.get("config").and_then(Value::as_str) {
                Some(text) => self.print(text),
                None => self.say(&serde_json::to_string_pretty(&without_ok(answer))?),
            },
            Request::ConfigHistory => {
                let list = without_ok(answer);
                let rows = list.as_object().and_then(|object| object.values().find_map(Value::as_array));
                self.print(&of_objects(rows.map_or(&[], Vec::as_slice)))
            }
            Request::Shutdown(how) => self.say(&format!("{how}: under way")),
            Request::Events { since, .. } => self.begin_events(*since, answer),
            Request::Logs { .. } | Request::PodStatus { .. } | Request::Dmesg { .. } => Ok(()),
            Request::ConfigApply { .. } | Request::ConfigRollback { .. } => self.go_on(request, line),
        }
    }

    /// One of the lines after it.
    pub(super) fn go_on(&mut self, request: &Request, line: &Line) -> Result<()> {
        if self.json {
            return self.say(&line.text);
        }
        let item = &line.value;
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| item.get(name).and_then(Value::as_u64).unwrap_or_default();
        match request {
            Request::Events { .. } => {
                let service = cell(item.get("service"));
                let (at, kind, what) = (stamp(number("at_ms")), text("kind"), text("text"));
                self.say(&format!("{:<6}  {at:>12}  {kind:<9}  {service:<12}  {what}", number("seq")))
            }
            Request::Logs { .. } if item.get("partial") == Some(&Value::Bool(true)) => {
                self.print(text("line"))
            }
            Request::Logs { .. } => self.say(text("line")),
            Request::Dmesg { .. } if item.get("gap").is_some() => {
                self.say("-- the kernel has dropped lines here")
            }
            Request::Dmesg { .. } => {
                let at = number("at_us");
                self.say(&format!("[{:>5}.{:06}] {}", at / 1_000_000, at % 1_000_000, text("text")))
            }
            Request::PodStatus { .. } => {
                if std::mem::replace(&mut self.again, true) {
                    self.say("")?;
                }
                self.print(&pod_status(item))
            }
            Request::ConfigApply { .. }
            | Request::ConfigRollback { .. }
            | Request::Version
            | Request::Services
            | Request::Service { .. }
            | Request::ServiceStatus { .. }
            | Request::Pods
            | Request::ConfigGet
            | Request::ConfigStatus
            | Request::ConfigHistory
            | Request::Shutdown(_) => self.print(&progress(item)),
        }
    }

    fn begin_events(&mut self, since: u64, answer: &Value) -> Result<()> {
        let boot = cell(answer.get("boot"));
        if answer.get("new_boot").is_some() {
            self.say(&format!("-- number {since} is of an earlier boot; this one, {boot}, begins at 1"))?;
        }
        if let Some(gap) = answer.get("gap") {
            let (from, to) = (cell(gap.get("from")), cell(gap.get("to")));
            self.say(&format!("-- events {from} to {to} are not kept any more"))?;
        }
        self.say(&format!("{:<6}  {:>12}  {:<9}  {:<12}  {}", "SEQ", "TIME", "KIND", "SERVICE", "EVENT"))
    }

    fn say(&mut self, line: &str) -> Result<()> {
        self.print(line)?;
        self.print("\n")?;
        // A stream is read as it comes.
        Ok(self.out.flush()?)
    }

    fn print(&mut self, text: &str) -> Result<()> {
        Ok(self.out.write_all(text.as_bytes())?)
    }
}

fn pods(answer: &Value) -> String {
    let pods = list(answer, "pods");
    let held = |pod: &Value| pod.get("held").and_then(Value::as_str).map(str::to_owned);
    let row = |pod: &Value| {
        let state = match (held(pod), cell(pod.get("file")).as_str()) {
            (Some(_), _) => "held",
            (None, "-") => "refused",
            (None, _) => "written",
        };
        let part = |name: &str| cell(pod.get(name));
        vec![part("id"), part("version"), part("origin"), part("valid"), state.to_owned(), part("file")]
    };
    let headings = ["ID", "VERSION", "ORIGIN", "VALID", "STATE", "FILE"];
    let mut text = table(&headings, &pods.iter().map(row).collect::<Vec<_>>());
    for pod in pods {
        let name = if pod.get("id").is_some() { "id" } else { "file" };
        if let Some(reason) = held(pod) {
            text.push_str(&format!("{}: held: {reason}\n", cell(pod.get(name))));
        }
        for problem in list(pod, "problems") {
            text.push_str(&format!("{}: {}\n", cell(pod.get(name)), cell(Some(problem))));
        }
    }
    text
}

fn pod_status(state: &Value) -> String {
    let row = |pod: &Value| {
        let containers = list(pod, "containers");
        let restarts: u64 =
            containers.iter().filter_map(|container| container.get("restarts").and_then(Value::as_u64)).sum();
        let ready =
            containers.iter().filter(|container| container.get("ready") == Some(&json!(true))).count();
        // The pod's own reason, or the first that a container has.
        let why = |name: &str| {
            let all = std::iter::once(pod).chain(containers);
            all.map(|part| cell(part.get(name))).find(|text| text != "-").unwrap_or_else(|| "-".to_owned())
        };
        vec![
            cell(pod.get("id")),
            cell(pod.get("phase")),
            format!("{ready}/{}", containers.len()),
            restarts.to_string(),
            cell(pod.get("pod_ip")),
            why("reason"),
            why("message"),
        ]
    };
    let headings = ["ID", "PHASE", "READY", "RESTARTS", "IP", "REASON", "MESSAGE"];
    let mut text = table(&headings, &list(state, "pods").iter().map(row).collect::<Vec<_>>());
    match state.get("kubelet").and_then(Value::as_str) {
        None | Some("ok") => {}
        Some(why) => text.push_str(&format!("the kubelet does not answer: {why}\n")),
    }
    text
}

/// What a change of the config says while it goes on: a line is about one thing, and the last one is the result.
fn progress(item: &Value) -> String {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    if let Some(problem) = text("problem") {
        return format!("{}: {problem}\n", text("severity").unwrap_or("problem"));
    }
    if let Some(difference) = text("diff") {
        return format!("{difference}\n");
    }
    if let Some(change) = text("change") {
        return format!("{change}: {}\n", text("needs").unwrap_or_default());
    }
    if let Some(said) = text("log") {
        return format!("{}: {said}\n", text("level").unwrap_or("log"));
    }
    let Some(result) = text("result") else { return String::new() };
    let mut words = vec![result.to_owned()];
    words.extend(item.get("generation").map(|generation| format!("generation {generation}")));
    words.extend(item.get("pods").map(|pods| format!("pods {pods}")));
    match item.get("standing") {
        Some(Value::String(standing)) => words.push(standing.clone()),
        Some(Value::Object(standing)) => words.extend(standing.iter().map(|(name, limit)| {
            let seconds = limit.get("secs").and_then(Value::as_u64).unwrap_or_default();
            format!("{name} for {seconds} s")
        })),
        _ => {}
    }
    match item.get("reboot").or(item.get("needsReboot")) {
        Some(Value::Bool(true)) => words.push("the node reboots for it".to_owned()),
        Some(Value::String(why)) => words.push(why.clone()),
        _ => {}
    }
    let restarts: Vec<String> = list(item, "restarts").iter().map(|service| cell(Some(service))).collect();
    if !restarts.is_empty() {
        words.push(format!("restarting {}", restarts.join(", ")));
    }
    format!("{}\n", words.join(", "))
}

pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn without_ok(answer: &Value) -> Value {
    let mut answer = answer.clone();
    if let Some(object) = answer.as_object_mut() {
        object.remove("ok");
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(request: &Request, json: bool, lines: &[Value]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, json);
        for (n, value) in lines.iter().enumerate() {
            let line = Line { text: value.to_string(), value: value.clone() };
            match n {
                0 => printer.begin(request, &line).unwrap(),
                _ => printer.go_on(request, &line).unwrap(),
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn events_tell_gaps_and_another_boot() {
        let request = Request::Events { since: 300, boot: None, follow: false };
        let lines = [
            json!({"ok": true, "boot": "ab", "last": 9, "gap": {"from": 1, "to": 8}, "new_boot": true}),
            json!({"seq": 9, "at_ms": 12_345, "kind": "service", "service": "log", "text": "up"}),
        ];
        let expected = "\
-- number 300 is of an earlier boot; this one, ab, begins at 1
-- events 1 to 8 are not kept any more
SEQ             TIME  KIND       SERVICE       EVENT
9        [   12.345]  service    log           up
";
        assert_eq!(printed(&request, false, &lines), expected);
    }

    #[test]
    fn pods_show_what_is_wrong_with_them() {
        let answer = json!({"ok": true, "pods": [
            {"id": "default-web", "version": 2, "origin": "config", "valid": false, "file": "podium-default-web.yaml",
             "problems": ["line 9: no image"]},
            {"id": "default-x", "version": 0, "origin": "config", "valid": true, "file": "", "problems": [],
             "held": "host port 80 (TCP) is taken"},
            {"id": "default-y", "version": 0, "origin": "config", "valid": false, "file": "", "problems": []},
        ]});
        let expected = "\
ID           VERSION  ORIGIN  VALID  STATE    FILE
default-web  2        config  false  written  podium-default-web.yaml
default-x    0        config  true   held     -
default-y    0        config  false  refused  -
default-web: line 9: no image
default-x: held: host port 80 (TCP) is taken
";
        assert_eq!(printed(&Request::Pods, false, &[answer]), expected);
    }

    #[test]
    fn the_states_of_pods_show_why_they_do_not_run() {
        let state = json!({"kubelet": "connection refused", "pods": [
            {"id": "default-web", "phase": "Pending", "pod_ip": "10.0.0.2", "reason": "", "containers": [
                {"name": "a", "ready": true, "restarts": 2, "reason": ""},
                {"name": "b", "ready": false, "restarts": 1, "reason": "ImagePullBackOff", "message": "x"}]},
        ]});
        let text = printed(&Request::PodStatus { watch: false }, false, &[json!({"ok": true}), state]);
        assert!(
            text.contains("default-web  Pending  1/2    3         10.0.0.2  ImagePullBackOff  x\n"),
            "{text}"
        );
        assert!(text.ends_with("the kubelet does not answer: connection refused\n"), "{text}");
    }

    #[test]
    fn a_change_is_told_as_it_goes() {
        let request = Request::ConfigRollback { generation: None };
        let lines = [
            json!({"ok": true}),
            json!({"problem": "line 1: x", "severity": "warning"}),
            json!({"diff": "+ machine.env.A: \"b\""}),
            json!({"change": "machine.env", "needs": "services restart"}),
            json!({"log": "x is not there", "level": "error"}),
            json!({"ok": true, "result": "applied", "generation": 3, "pods": 2,
                   "standing": {"on-proof": {"secs": 300, "nanos": 0}}, "restarts": ["kubelet"]}),
        ];
        let expected = "\
warning: line 1: x
+ machine.env.A: \"b\"
machine.env: services restart
error: x is not there
applied, generation 3, pods 2, on-proof for 300 s, restarting kubelet
";
        assert_eq!(printed(&request, false, &lines), expected);
    }

    #[test]
    fn logs_and_the_kernels_log_are_plain_lines() {
        let request = Request::Logs { service: "a".into(), tail: None, follow: false, boots_back: None };
        let lines = [json!({"ok": true}), json!({"line": "x", "partial": true}), json!({"line": "y"})];
        assert_eq!(printed(&request, false, &lines), "xy\n");
        let lines = [json!({"ok": true}), json!({"at_us": 1_000_002, "text": "z"}), json!({"gap": true})];
        let expected = "[    1.000002] z\n-- the kernel has dropped lines here\n";
        assert_eq!(printed(&Request::Dmesg { follow: true }, false, &lines), expected);
    }

    #[test]
    fn what_is_not_known_here_is_printed_as_it_is() {
        let text = printed(&Request::Version, false, &[json!({"ok": true, "new_thing": 1, "podium": "2"})]);
        assert_eq!(text, "NEW-THING  PODIUM\n1          2\n");
        let config = json!({"ok": true, "config": "version: v1alpha1\n"});
        assert_eq!(printed(&Request::ConfigGet, false, &[config]), "version: v1alpha1\n");
    }
}
