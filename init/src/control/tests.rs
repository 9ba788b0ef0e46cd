//! What is a request and what is not, word by word.

use super::*;
use proptest::prelude::*;

fn request(line: &str) -> Request {
    parse(line.as_bytes()).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"))
}

fn refused(line: impl AsRef<[u8]>) -> (String, String) {
    let Refusal { error, remedy } = parse(line.as_ref()).expect_err("a refusal");
    (error, remedy)
}

/// Every request, with and without its arguments.
fn all() -> Vec<Request> {
    let name = || "kubelet".to_owned();
    vec![
        Request::Version,
        Request::Services,
        Request::Service { name: name(), action: Action::Start },
        Request::Service { name: name(), action: Action::Stop },
        Request::Service { name: name(), action: Action::Restart },
        Request::Logs { service: name(), tail: None, follow: false, boots_back: None },
        Request::Logs { service: name(), tail: Some(0), follow: true, boots_back: Some(1) },
        Request::ServiceStatus { name: name() },
        Request::Events { since: 0, boot: None, follow: false },
        Request::Events { since: 7, boot: Some("abc".into()), follow: true },
        Request::Pods,
        Request::PodStatus { watch: false },
        Request::PodStatus { watch: true },
        Request::ConfigGet,
        Request::ConfigStatus,
        Request::ConfigApply { mode: Mode::Auto, dry_run: false, timeout_s: None },
        Request::ConfigApply { mode: Mode::NoReboot, dry_run: true, timeout_s: Some(9) },
        Request::ConfigApply { mode: Mode::Staged, dry_run: false, timeout_s: None },
        Request::ConfigApply { mode: Mode::Reboot, dry_run: false, timeout_s: None },
        Request::ConfigApply { mode: Mode::Try, dry_run: false, timeout_s: Some(60) },
        Request::ConfigHistory,
        Request::ConfigRollback { generation: None },
        Request::ConfigRollback { generation: Some(3) },
        Request::Dmesg { follow: false },
        Request::Dmesg { follow: true },
        Request::Shutdown(Shutdown::Reboot),
        Request::Shutdown(Shutdown::PowerOff),
        Request::Shutdown(Shutdown::Reset(Reset { state: true, ephemeral: true, reboot: false })),
        Request::Shutdown(Shutdown::Reset(Reset { state: false, ephemeral: true, reboot: true })),
    ]
}

#[test]
fn every_request_is_read_as_it_was_written() {
    for wanted in all() {
        let line = wanted.to_line();
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        assert_eq!(request(line.trim_end()), wanted);
    }
    let written: Vec<String> = all().iter().map(Request::to_line).collect();
    for (name, _) in REQUESTS {
        assert!(written.iter().any(|line| line.contains(&format!("{name:?}"))), "{name} is not in the table");
    }
}

#[test]
fn blanks_and_nulls_do_not_matter() {
    assert_eq!(request(" { \"version\" : 1 , \"request\" : \"services\" } \r"), Request::Services);
    let line = r#"{"request":"logs","version":1,"service":"log","tail":null,"follow":null}"#;
    assert_eq!(
        request(line),
        Request::Logs { service: "log".into(), tail: None, follow: false, boots_back: None }
    );
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    for (line, error, remedy) in [
        (r#"{"version":2,"request":"services"}"#, "version 2 is not spoken here", "speaks version 1"),
        (r#"{"request":"services"}"#, "names no version", "\"version\":1"),
        (r#"{"version":"1","request":"services"}"#, "\"version\" has a wrong value", "a whole number"),
        (r#"{"version":1}"#, "names no request", "\"request\":\"services\""),
        (
            r#"{"version":1,"request":"service s"}"#,
            "unknown request \"service s\"",
            "did you mean \"services\"?",
        ),
        (r#"{"version":1,"request":"poweroff"}"#, "unknown request", "did you mean \"power off\"?"),
        (
            r#"{"version":1,"request":"xyzzy"}"#,
            "unknown request",
            "there is: version, services, service, service status, logs",
        ),
        (r#"{"version":1,"request":"services","all":true}"#, "no argument \"all\"", "it has none"),
        (
            r#"{"version":1,"request":"logs","service":"a","tial":1}"#,
            "no argument \"tial\"",
            "did you mean \"tail\"?",
        ),
        (r#"{"version":1,"request":"logs"}"#, "\"service\" is missing", "a service's name"),
        (
            r#"{"version":1,"request":"logs","service":"a","tail":-1}"#,
            "expected a text, a whole number",
            "send one",
        ),
        (
            r#"{"version":1,"request":"logs","service":"a","tail":"9"}"#,
            "\"tail\" has a wrong value",
            "whole number",
        ),
        (
            r#"{"version":1,"request":"logs","service":"a","follow":1}"#,
            "\"follow\" has a wrong value",
            "true or",
        ),
        (
            r#"{"version":1,"request":"service","name":"a"}"#,
            "\"action\" is missing",
            "start, stop or restart",
        ),
        (
            r#"{"version":1,"request":"service","name":"a","action":"kill"}"#,
            "\"action\" is \"kill\"",
            "start, stop",
        ),
        (
            r#"{"version":1,"request":"config apply","mode":"auto "}"#,
            "\"mode\" is",
            "auto, no-reboot, staged, reboot, try",
        ),
        ("", "no request: EOF", "send one JSON object"),
        ("services", "no request: ", "send one JSON object"),
        ("[1]", "expected a JSON object", "send one JSON object"),
        (r#"{"version":1,"request":["services"]}"#, "\"request\" has a wrong value", "a text"),
        (r#"{"version":1,"request":{"services":1}}"#, "no request: ", "send one JSON object"),
        (r#"{"version":1,"request":"services"} x"#, "trailing characters", "send one JSON object"),
        (r#"{"version":1,"version":1}"#, "\"version\" stands there twice", "send one JSON object"),
    ] {
        let (said, to_do) = refused(line);
        assert!(said.contains(error), "{line}: {said}");
        assert!(to_do.contains(remedy), "{line}: {to_do}");
    }
    let many: Vec<String> = (0..17).map(|n| format!("\"a{n}\":1")).collect();
    assert!(refused(format!("{{{}}}", many.join(","))).0.contains("more than 16 names"));
    assert!(refused(b"\xff\xfe").0.starts_with("no request: "));
    assert!(refused(vec![b' '; LINE_MAX + 1]).0.contains("more than 64 KiB"));
}

#[test]
fn a_reset_is_of_both_partitions_unless_it_names_one() {
    let both = Reset { state: true, ephemeral: true, reboot: false };
    for (arguments, wanted) in [
        ("", both),
        (r#","partitions":null,"reboot":null"#, both),
        (r#","partitions":["EPHEMERAL","STATE","STATE"]"#, both),
        (r#","partitions":["STATE"],"reboot":true"#, Reset { ephemeral: false, reboot: true, ..both }),
        (r#","partitions":["EPHEMERAL"]"#, Reset { state: false, ..both }),
    ] {
        let line = format!(r#"{{"version":1,"request":"reset"{arguments}}}"#);
        assert_eq!(request(&line), Request::Shutdown(Shutdown::Reset(wanted)), "{line}");
    }
    for (partitions, error, remedy) in [
        (r#"["state"]"#, "\"state\" is not one that may be wiped", "STATE"),
        (r#"["EFI"]"#, "\"EFI\" is not one that may be wiped", "STATE"),
        ("[]", "nothing to wipe", "name a partition"),
        (r#""STATE""#, "\"partitions\" has a wrong value", "a list of texts"),
        ("[1]", "no request: ", "send one JSON object"),
        (r#"[["STATE"]]"#, "no request: ", "send one JSON object"),
        (r#"["","","","","","","","",""]"#, "a list of more than 8 texts", "send one JSON object"),
    ] {
        let (said, to_do) =
            refused(format!(r#"{{"version":1,"request":"reset","partitions":{partitions}}}"#));
        assert!(said.contains(error) && to_do.contains(remedy), "{partitions}: {said}; {to_do}");
    }
    assert_eq!(Shutdown::Reset(both).to_string(), "reset of STATE and EPHEMERAL, then power off");
}

/// Written by hand, so that a request that moves to another role is seen.
#[test]
fn every_role_may_what_it_should_and_nothing_more() {
    let reader = ["version", "services", "service status", "events", "config status", "pods", "pod status"];
    let operator = ["service", "reboot", "power off"];
    let admin = ["config get", "config apply", "config history", "config rollback", "reset"];
    let root = ["logs", "dmesg"];
    let roles = [&reader[..], &operator, &admin, &root];
    assert_eq!(roles.iter().map(|names| names.len()).sum::<usize>(), REQUESTS.len());
    for asked in all() {
        let line: serde_json::Value = serde_json::from_str(&asked.to_line()).unwrap();
        let name = line["request"].as_str().unwrap().to_owned();
        let least = roles.iter().position(|names| names.contains(&name.as_str())).unwrap();
        for (place, role) in Role::ALL.into_iter().skip(1).enumerate() {
            match allowed(role, &asked) {
                Ok(()) => assert!(place >= least, "{role:?} may {name}"),
                Err(why) => {
                    assert!(place < least, "{role:?} may not {name}");
                    assert!(
                        why.error.contains(&format!("the role {}", Role::ALL[least + 1].word())),
                        "{why}"
                    );
                }
            }
        }
        assert_eq!(allowed(Role::Maintenance, &asked).is_ok(), name == "config apply", "maintenance: {name}");
    }
}

#[test]
fn no_service_is_named_by_a_path() {
    for name in ["", ".", "..", "../kubelet", "a/b", "-f", "Kubelet", "a b", "a\0", "ä", &"a".repeat(65)] {
        assert!(!is_service_name(name), "{name:?}");
        let line = serde_json::json!({"version": 1, "request": "logs", "service": name}).to_string();
        assert!(refused(line).0.ends_with("is no service's name"), "{name:?}");
    }
    assert!(is_service_name("kubelet") && is_service_name("a-1"));
}

#[test]
fn what_somebody_sent_is_said_again_in_one_short_line() {
    let name = "x\\n\\u001b".repeat(500);
    let (error, _) = refused(format!(r#"{{"version":1,"request":"{name}"}}"#));
    assert!(error.len() < 200 && !error.contains('\n') && !error.contains('\u{1b}'), "{error}");
    let answer = refusal(&Refusal::new("a \"b\"\n", ""));
    assert_eq!(answer, "{\"error\":\"a \\\"b\\\"\\n\",\"ok\":false}\n");
}

#[test]
fn a_service_that_is_not_there_is_compared_with_those_that_are() {
    let known = ["containerd", "kubelet"];
    assert_eq!(no_such_service("kublet", known.into_iter()).remedy, "did you mean \"kubelet\"?");
    assert_eq!(no_such_service("x", known.into_iter()).remedy, "there is: containerd, kubelet");
}

#[test]
fn the_largest_answer_fits_into_the_output_that_may_wait() {
    use crate::supervisor::{Death, Exit, Health, MAX_DEATHS, State, Status, Wanted};
    use crate::usage::Usage;
    use std::time::Duration;
    let at = Duration::from_secs(1 << 40);
    let death = Death { at, exit: Some(Exit::OomKilled), reason: "\"".repeat(4096) };
    let deaths = vec![death; MAX_DEATHS];
    let (name, reason) = ("s".repeat(20), "\"".repeat(4096));
    let status = Status {
        service: &name,
        wanted: Wanted::Down,
        state: State::Stopping { until: at, killed: true },
        since: at,
        pid: Some(i32::MAX),
        restarts: u64::MAX,
        deaths: &deaths,
        health: Some(Health::Failing { failures: u32::MAX, limit: u32::MAX, why: &reason }),
    };
    let usage = Usage { memory: Some(u64::MAX), cpu_us: Some(u64::MAX) };
    let told = Told { status, reason: reason.clone(), usage };
    let answer = services(std::iter::repeat_n(told, 14), at);
    assert!(answer.len() <= OUTPUT_MAX, "{}", answer.len());
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(why) = parse(&bytes) {
            prop_assert!(!why.error.is_empty());
        }
    }

    #[test]
    fn any_object_of_scalars_is_a_request_or_a_refusal(
        name in "[a-z ]{0,12}", key in "[a-z_]{0,10}", value in prop_oneof![
            Just("1".to_owned()), Just("true".to_owned()), Just("\"x\"".to_owned()), Just("[[[]]]".to_owned()),
        ],
    ) {
        let known = REQUESTS.map(|(name, _)| name);
        let request = known.get(name.len()).copied().unwrap_or(&name);
        let line = format!(r#"{{"version":1,"request":"{request}","{key}":{value}}}"#);
        drop(parse(line.as_bytes()));
    }
}
