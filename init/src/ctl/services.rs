//! How services look: all of them as a table, one of them in full.

use super::show::list;
use super::table::{cell, span, table};
use serde_json::Value;

/// The answer to `services`.
pub(super) fn services(answer: &Value) -> String {
    let now = now(answer);
    let services = list(answer, "services");
    let row = |service: &Value| {
        let part = |name: &str| cell(service.get(name));
        let last = list(service, "deaths").last();
        vec![
            part("service"),
            part("wanted"),
            part("state"),
            cell(service.pointer("/health/state")),
            ago(service.get("since_ms"), now),
            part("pid"),
            part("restarts"),
            last.map_or_else(
                || "-".to_owned(),
                |death| format!("{}, {} ago", end(death), ago(death.get("at_ms"), now)),
            ),
        ]
    };
    let headings = ["SERVICE", "WANTED", "STATE", "HEALTH", "AGE", "PID", "RESTARTS", "LAST-END"];
    let mut text = table(&headings, &services.iter().map(row).collect::<Vec<_>>());
    for service in services {
        match cell(service.get("reason")).as_str() {
            "-" | "done" | "not wanted" => {}
            reason => text.push_str(&format!("{}: {reason}\n", cell(service.get("service")))),
        }
    }
    text
}

/// The answer to `service status`.
pub(super) fn service(answer: &Value) -> String {
    let now = now(answer);
    let service = answer.get("service").unwrap_or(&Value::Null);
    let part = |name: &str| cell(service.get(name));
    let number = |name: &str| service.get(name).and_then(Value::as_u64);
    let since = format!("{}, for {}", part("state"), ago(service.get("since_ms"), now));
    let memory = number("memory_bytes").map(|bytes| format!("{} KiB", bytes / 1024));
    let cpu = number("cpu_us").map(|cpu| format!("{}.{:03} s", cpu / 1_000_000, cpu / 1000 % 1000));
    let unknown = || "-".to_owned();
    let rows = [
        ("service", part("service")),
        ("wanted", part("wanted")),
        ("state", since),
        ("reason", part("reason")),
        ("health", cell(service.pointer("/health/state"))),
        ("pid", part("pid")),
        ("restarts", part("restarts")),
        ("memory", memory.unwrap_or_else(unknown)),
        ("cpu", cpu.unwrap_or_else(unknown)),
    ];
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:<10}{value}\n")).collect();
    for death in list(service, "deaths") {
        text.push_str(&format!("{:<10}{} ago, {}\n", "ended", ago(death.get("at_ms"), now), end(death)));
    }
    text
}

fn now(answer: &Value) -> u64 {
    answer.get("now_ms").and_then(Value::as_u64).unwrap_or_default()
}

fn ago(at: Option<&Value>, now: u64) -> String {
    span(now.saturating_sub(at.and_then(Value::as_u64).unwrap_or(now)))
}

/// How one ended, and why.
fn end(death: &Value) -> String {
    let words = [cell(death.get("exit")), cell(death.get("reason"))];
    let words: Vec<String> = words.into_iter().filter(|word| word != "-").collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kubelet() -> Value {
        json!({"service": "kubelet", "wanted": "up", "state": "up", "since_ms": 40_000, "pid": 12, "restarts": 1,
             "reason": "", "health": {"state": "healthy"}, "memory_bytes": 2_097_152, "cpu_us": 1_234_567,
             "deaths": [{"at_ms": 39_000, "exit": "signal 9", "reason": "unhealthy: no answer"}]})
    }

    #[test]
    fn services_are_a_table_with_their_last_end_and_why_one_is_in_trouble() {
        let answer = json!({"ok": true, "now_ms": 100_000, "services": [
            kubelet(),
            {"service": "log", "wanted": "up", "state": "backoff", "since_ms": 0, "pid": null, "restarts": 0,
             "reason": "crash loop, 5 failures in a row: not started: no memory", "health": null,
             "deaths": [{"at_ms": 0, "exit": null, "reason": "no memory"}]},
        ]});
        let expected = "\
SERVICE  WANTED  STATE    HEALTH   AGE   PID  RESTARTS  LAST-END
kubelet  up      up       healthy  60s   12   1         signal 9, unhealthy: no answer, 61s ago
log      up      backoff  -        100s  -    0         no memory, 100s ago
log: crash loop, 5 failures in a row: not started: no memory
";
        assert_eq!(services(&answer), expected);
    }

    #[test]
    fn one_service_is_told_in_full() {
        let answer = json!({"ok": true, "now_ms": 100_000, "service": kubelet()});
        let expected = "\
service   kubelet
wanted    up
state     up, for 60s
reason    -
health    healthy
pid       12
restarts  1
memory    2048 KiB
cpu       1.234 s
ended     61s ago, signal 9, unhealthy: no answer
";
        assert_eq!(service(&answer), expected);
    }

    #[test]
    fn what_an_older_node_does_not_say_is_left_open() {
        let text = service(&json!({"ok": true, "now_ms": 1, "service": {"service": "log", "since_ms": 1}}));
        assert!(text.contains("memory    -\ncpu       -\n"), "{text}");
    }
}
