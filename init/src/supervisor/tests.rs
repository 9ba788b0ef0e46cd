//! One test a rule. The random lives of whole nodes are in `init/tests/supervision.rs` and `init/tests/simulation.rs`.

mod health;
mod shutdown;

use super::*;
use crate::backoff::{LOOP_FAILURES, RESET_AFTER, full_delay};
use crate::config::{Seconds, ShutdownLimits};
use crate::services::{Health, Limits as Bounds, Need, Probe, Readiness, Restart, Scope, Stop};
use crate::shutdown::{HURRY_LIMIT, LAST_ACTS};

fn service(id: &str, readiness: Readiness, needs: &[(&str, Option<u64>)]) -> Service {
    Service {
        id: id.into(),
        argv: vec![format!("/usr/bin/{id}")],
        env: Vec::new(),
        needs: needs
            .iter()
            .map(|(service, limit)| Need {
                service: (*service).into(),
                limit: limit.map(Duration::from_secs),
                again: false,
            })
            .collect(),
        readiness,
        ready_limit: Some(Duration::from_secs(20)),
        looked_after: false,
        restart: if id == "preload" { Restart::OnFailure } else { Restart::Always },
        cgroup: format!("podium/{id}"),
        oom_score_adj: 0,
        nofile: 1024,
        user: None,
        health: None,
        limits: Bounds { memory_min: 0, memory_max: None, pids_max: None },
        stop: Stop {
            signal: 15,
            limit: Duration::from_secs(10),
            scope: if id == "containerd" { Scope::Main } else { Scope::Group },
        },
    }
}

const CONTAINERD: Id = Id(0);
const PRELOAD: Id = Id(1);
const KUBELET_ID: Id = Id(2);

fn node() -> Supervisor {
    let services = vec![
        service("containerd", Readiness::Notify, &[]),
        service("preload", Readiness::Notify, &[("containerd", None)]),
        service("kubelet", Readiness::Notify, &[("containerd", None), ("preload", Some(60))]),
    ];
    Supervisor::new(services, Time::ZERO)
}

fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn spawns(actions: &[Action]) -> Vec<Id> {
    actions
        .iter()
        .filter_map(|action| if let Action::Spawn(id) = action { Some(*id) } else { None })
        .collect()
}

fn state(node: &Supervisor, id: Id) -> State {
    node.statuses().nth(id.0).expect("a service of the node").state
}

fn report(line: &str) -> Action {
    Action::Report(line.into())
}

/// A node with everything up: containerd has pid 10, kubelet 12.
fn running() -> Supervisor {
    let mut node = node();
    assert_eq!(spawns(&node.begin(Time::ZERO)), [CONTAINERD]);
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    assert_eq!(spawns(&node.step(Event::Ready(CONTAINERD), at(1))), [PRELOAD]);
    node.step(Event::Spawned(PRELOAD, 11), at(1));
    assert_eq!(spawns(&node.step(Event::Exited(11, Exit::Code(0)), at(2))), [KUBELET_ID]);
    node.step(Event::Spawned(KUBELET_ID, 12), at(2));
    node.step(Event::Ready(KUBELET_ID), at(3));
    node
}

#[test]
fn needs_are_started_first_and_the_next_starts_in_the_same_step() {
    let node = running();
    assert!(node.statuses().all(|status| status.state == State::Up));
    assert_eq!(node.deadline(), None, "a node at rest never wakes");
}

#[test]
fn a_need_with_a_limit_is_given_up_and_one_without_is_not() {
    let mut node = node();
    node.begin(Time::ZERO);
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    assert_eq!(spawns(&node.step(Event::Deadline, at(19))), []);
    node.step(Event::Ready(CONTAINERD), at(19));
    node.step(Event::Spawned(PRELOAD, 11), at(19));
    assert_eq!(spawns(&node.step(Event::Deadline, at(38))), []);
    assert_eq!(spawns(&node.step(Event::Deadline, at(60))), [KUBELET_ID]);
}

#[test]
fn a_death_restarts_at_once_and_the_second_one_later() {
    let mut node = running();
    assert_eq!(spawns(&node.step(Event::Exited(10, Exit::Signal(9)), at(5))), [CONTAINERD]);
    node.step(Event::Spawned(CONTAINERD, 20), at(5));
    let actions = node.step(Event::Exited(20, Exit::Code(1)), at(6));
    assert_eq!(spawns(&actions), []);
    let reported = |action: &Action| matches!(action, Action::Report(line) if line.starts_with("containerd: ended, code 1; next start in 0."));
    assert!(actions.iter().any(reported), "{actions:?}");
    let delay = node.deadline().expect("a next start") - at(6);
    assert!(delay >= full_delay(1) / 2 && delay <= full_delay(1), "{delay:?}");
    assert_eq!(spawns(&node.step(Event::Deadline, at(7))), [CONTAINERD]);
    assert_eq!(state(&node, KUBELET_ID), State::Up, "the kubelet is left alone");
}

#[test]
fn containerds_group_is_never_killed_and_the_kubelets_is() {
    let mut node = running();
    let actions = node.step(Event::Exited(10, Exit::Signal(9)), at(5));
    assert!(!actions.iter().any(|action| matches!(action, Action::KillGroup(..))));
    let actions = node.step(Event::Exited(12, Exit::Signal(9)), at(5));
    assert!(actions.contains(&Action::KillGroup(KUBELET_ID, 12)));
}

#[test]
fn a_start_that_takes_too_long_is_ended_and_tried_again() {
    let mut node = node();
    node.begin(Time::ZERO);
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    assert!(node.step(Event::Deadline, at(20)).contains(&Action::Signal(10, 15)));
    assert!(node.step(Event::Deadline, at(30)).contains(&Action::Signal(10, 9)));
    assert_eq!(spawns(&node.step(Event::Exited(10, Exit::Signal(9)), at(30))), [CONTAINERD]);
}

#[test]
fn what_sigkill_does_not_end_is_failed_until_it_ends() {
    let mut node = running();
    assert!(node.step(Event::Want(KUBELET_ID, Wanted::Down), at(5)).contains(&Action::Signal(12, 15)));
    assert!(node.step(Event::Deadline, at(15)).contains(&Action::KillGroup(KUBELET_ID, 12)));
    node.step(Event::Deadline, at(20));
    assert_eq!(state(&node, KUBELET_ID), State::Failed);
    assert_eq!(spawns(&node.step(Event::Want(KUBELET_ID, Wanted::Up), at(21))), [], "never a second process");
    assert_eq!(spawns(&node.step(Event::Exited(12, Exit::Signal(9)), at(99))), [KUBELET_ID]);
}

#[test]
fn a_failed_start_says_at_which_stage() {
    let mut node = node();
    node.begin(Time::ZERO);
    let actions = node.step(Event::SpawnFailed(CONTAINERD, "fork: out of processes".into()), at(0));
    assert!(
        actions.contains(&Action::Report(
            "containerd: not started: fork: out of processes; next start now".into()
        ))
    );
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    node.step(Event::StageFailed(CONTAINERD, "exec: /usr/bin/containerd: not found".into()), at(0));
    node.step(Event::Exited(10, Exit::Code(125)), at(0));
    let status = node.statuses().next().expect("containerd");
    assert_eq!(
        status.deaths.last().map(|death| death.reason.as_str()),
        Some("exec: /usr/bin/containerd: not found")
    );
}

#[test]
fn deaths_are_remembered_up_to_a_bound() {
    let mut node = node();
    node.begin(Time::ZERO);
    for n in 0..50 {
        node.step(Event::SpawnFailed(CONTAINERD, format!("try {n}")), at(n * 100));
        if let State::Backoff { until } = state(&node, CONTAINERD) {
            node.step(Event::Deadline, until);
        }
    }
    let status = node.statuses().next().expect("containerd");
    assert_eq!(status.deaths.len(), MAX_DEATHS);
    assert_eq!(status.deaths.last().map(|death| death.reason.as_str()), Some("try 49"));
}

/// What is said of crash loops in these actions.
fn loops(actions: &[Action]) -> Vec<&str> {
    let lines = actions.iter().filter_map(|action| match action {
        Action::Report(line) => Some(line.as_str()),
        _ => None,
    });
    lines.filter(|line| line.contains("crash loop")).collect()
}

#[test]
fn a_crash_loop_is_told_once_and_at_each_other_way_to_end_and_when_it_is_over() {
    let mut node = running();
    let mut now = at(5);
    let mut end = |node: &mut Supervisor, code| {
        if let State::Backoff { until } = state(node, CONTAINERD) {
            now = until;
            node.step(Event::Deadline, now);
        }
        node.step(Event::Spawned(CONTAINERD, 20), now);
        (node.step(Event::Exited(20, Exit::Code(code)), now), now)
    };
    node.step(Event::Exited(10, Exit::Code(1)), at(5));
    for _ in 2..LOOP_FAILURES {
        assert_eq!(loops(&end(&mut node, 1).0), [""; 0]);
    }
    let expected = "containerd: crash loop: 5 failures in a row, the last: ended, code 1";
    assert_eq!(loops(&end(&mut node, 1).0), [expected]);
    assert_eq!(loops(&end(&mut node, 1).0), [""; 0]);
    let (actions, ended) = end(&mut node, 2);
    assert_eq!(loops(&actions), ["containerd: crash loop: 7 failures in a row, the last: ended, code 2"]);

    let State::Backoff { until } = state(&node, CONTAINERD) else { panic!("no backoff") };
    assert!(until - ended >= full_delay(6) / 2 && until - ended <= full_delay(6));
    node.step(Event::Deadline, until);
    node.step(Event::Spawned(CONTAINERD, 21), until);
    node.step(Event::Ready(CONTAINERD), until);
    assert_eq!(node.deadline(), Some(until + RESET_AFTER), "one look");
    let actions = node.step(Event::Deadline, until + RESET_AFTER);
    assert_eq!(loops(&actions), ["containerd: crash loop over: up for 60s"]);
    assert_eq!(node.deadline(), None, "and no more");
    assert_eq!(spawns(&node.step(Event::Exited(21, Exit::Code(1)), until + at(61))), [CONTAINERD], "at once");
}

#[test]
fn what_went_on_without_a_need_is_started_anew_when_that_is_there_and_once_only() {
    let again = |again| {
        let mut services = vec![
            service("net", Readiness::Notify, &[]),
            service("kubelet", Readiness::Exec, &[("net", Some(10))]),
        ];
        services[1].needs[0].again = again;
        let mut node = Supervisor::new(services, Time::ZERO);
        node.begin(Time::ZERO);
        node.step(Event::Spawned(Id(0), 10), at(0));
        assert_eq!(spawns(&node.step(Event::Deadline, at(10))), [Id(1)]);
        node.step(Event::Spawned(Id(1), 11), at(10));
        node.step(Event::Executed(Id(1)), at(10));
        let stopped = node.step(Event::Ready(Id(0)), at(20)).contains(&Action::Signal(11, 15));
        let started = spawns(&node.step(Event::Exited(11, Exit::Signal(15)), at(21)));
        node.step(Event::Spawned(Id(1), 12), at(21));
        node.step(Event::Executed(Id(1)), at(21));
        let more = node.step(Event::Ready(Id(0)), at(22));
        (stopped, started, more)
    };
    assert_eq!(again(true), (true, vec![Id(1)], Vec::new()));
    assert!(!again(false).0);
}

#[test]
fn strangers_are_ignored() {
    let mut node = running();
    assert_eq!(node.step(Event::Exited(4242, Exit::Signal(11)), at(5)), []);
    assert_eq!(node.step(Event::Ready(Id(77)), at(5)), []);
    assert_eq!(node.step(Event::PodsGone, at(5)), []);
}

#[test]
fn a_step_that_said_ready_stays_up_when_it_is_done_and_is_tried_again_when_it_failed() {
    let mut node = node();
    node.begin(Time::ZERO);
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    node.step(Event::Ready(CONTAINERD), at(1));
    node.step(Event::Spawned(PRELOAD, 11), at(1));
    assert_eq!(spawns(&node.step(Event::Ready(PRELOAD), at(1))), [KUBELET_ID]);
    assert_eq!(spawns(&node.step(Event::Exited(11, Exit::Code(1)), at(2))), [PRELOAD]);
    node.step(Event::Spawned(PRELOAD, 13), at(2));
    assert_eq!(spawns(&node.step(Event::Exited(13, Exit::Code(0)), at(3))), []);
    assert_eq!(state(&node, PRELOAD), State::Up);
    assert_eq!(
        node.deadline(),
        Some(at(1) + Duration::from_secs(20)),
        "only the kubelet's start is waited for"
    );
}

#[test]
fn a_restart_ends_the_service_by_its_rule_and_starts_it_when_it_has_ended() {
    let mut node = running();
    let actions = node.step(Event::Restart(CONTAINERD), at(5));
    assert!(actions.contains(&Action::Signal(10, 15)), "{actions:?}");
    assert_eq!(spawns(&actions), []);
    assert_eq!(state(&node, KUBELET_ID), State::Up, "what needs it is left alone");
    let actions = node.step(Event::Exited(10, Exit::Code(0)), at(6));
    assert_eq!(spawns(&actions), [CONTAINERD], "at once");
    assert!(!actions.iter().any(|action| matches!(action, Action::KillGroup(..))), "the shims live on");
    let status = node.statuses().next().unwrap();
    assert_eq!((status.restarts, status.deaths), (1, [].as_slice()), "a wish is no death");
    // The next end is one that nobody asked for.
    node.step(Event::Spawned(CONTAINERD, 20), at(6));
    node.step(Event::Ready(CONTAINERD), at(7));
    node.step(Event::Exited(20, Exit::Code(1)), at(8));
    assert_eq!(node.statuses().next().unwrap().deaths.len(), 1);
}

#[test]
fn a_restart_of_one_that_does_not_want_to_end_kills_it() {
    let mut node = running();
    node.step(Event::Restart(KUBELET_ID), at(5));
    assert_eq!(node.deadline(), Some(at(15)));
    assert!(node.step(Event::Deadline, at(15)).contains(&Action::KillGroup(KUBELET_ID, 12)));
    assert_eq!(spawns(&node.step(Event::Exited(12, Exit::Signal(9)), at(15))), [KUBELET_ID]);
}

#[test]
fn a_restart_starts_what_is_stopped_waits_or_is_done() {
    let mut node = running();
    // The step that is done.
    assert_eq!(spawns(&node.step(Event::Restart(PRELOAD), at(5))), [PRELOAD]);
    node.step(Event::Spawned(PRELOAD, 13), at(5));
    node.step(Event::Exited(13, Exit::Code(0)), at(5));
    // One that waits for its next try.
    node.step(Event::Exited(10, Exit::Code(1)), at(5));
    node.step(Event::Spawned(CONTAINERD, 20), at(5));
    node.step(Event::Exited(20, Exit::Code(1)), at(5));
    assert!(matches!(state(&node, CONTAINERD), State::Backoff { .. }));
    assert_eq!(spawns(&node.step(Event::Restart(CONTAINERD), at(5))), [CONTAINERD]);
    // One that was stopped.
    node.step(Event::Spawned(CONTAINERD, 21), at(5));
    node.step(Event::Ready(CONTAINERD), at(5));
    node.step(Event::Want(KUBELET_ID, Wanted::Down), at(6));
    node.step(Event::Exited(12, Exit::Code(0)), at(6));
    assert_eq!(state(&node, KUBELET_ID), State::Down);
    assert_eq!(spawns(&node.step(Event::Restart(KUBELET_ID), at(7))), [KUBELET_ID]);
}

#[test]
fn a_stop_is_about_one_service_and_a_start_during_it_starts_it_anew() {
    let mut node = running();
    assert!(node.step(Event::Want(CONTAINERD, Wanted::Down), at(5)).contains(&Action::Signal(10, 15)));
    assert_eq!(state(&node, KUBELET_ID), State::Up, "what needs it is not stopped");
    node.step(Event::Want(CONTAINERD, Wanted::Up), at(6));
    assert_eq!(spawns(&node.step(Event::Exited(10, Exit::Code(0)), at(7))), [CONTAINERD]);
    assert!(node.statuses().next().unwrap().deaths.is_empty());
    // Stopped while it is restarted: stopped.
    node.step(Event::Spawned(CONTAINERD, 20), at(7));
    node.step(Event::Restart(CONTAINERD), at(8));
    node.step(Event::Want(CONTAINERD, Wanted::Down), at(8));
    assert_eq!(spawns(&node.step(Event::Exited(20, Exit::Signal(15)), at(9))), []);
    assert_eq!(state(&node, CONTAINERD), State::Down);
    assert_eq!(node.deadline(), None, "and stays so");
}

#[test]
fn the_oom_killer_is_told_by_name() {
    let mut node = running();
    let actions = node.step(Event::Exited(12, Exit::OomKilled), at(5));
    let line = "kubelet: ended, signal 9, out of memory; next start now";
    assert!(actions.contains(&report(line)), "{actions:?}");
}

#[test]
fn a_state_says_why_it_is_so() {
    let mut node = node();
    node.begin(at(0));
    assert_eq!(node.reason(KUBELET_ID), "waits for containerd, preload");
    assert_eq!(node.reason(CONTAINERD), "");
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    node.step(Event::Deadline, at(20));
    assert_eq!(node.reason(CONTAINERD), "not ready after 20s");
    node.step(Event::Exited(10, Exit::Code(0)), at(21));
    node.step(Event::Spawned(CONTAINERD, 11), at(21));
    node.step(Event::Exited(11, Exit::Code(4)), at(21));
    assert_eq!(node.reason(CONTAINERD), "ended, code 4");
    assert_eq!(node.reason(Id(77)), "");
    let mut node = running();
    assert_eq!(node.reason(PRELOAD), "done");
    node.step(Event::Restart(CONTAINERD), at(5));
    assert_eq!(node.reason(CONTAINERD), "to be started anew");
    node.step(Event::Want(KUBELET_ID, Wanted::Down), at(5));
    assert_eq!(node.reason(KUBELET_ID), "not wanted");
}
