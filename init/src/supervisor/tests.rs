//! One test a rule. The random life of whole nodes is in `init/tests/supervision.rs`.

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
fn shutdown_stops_pods_then_kubelet_then_containerd() {
    let mut node = running();
    let actions = node.step(Event::Shutdown(Shutdown::PowerOff, "power button".into()), at(10));
    assert_eq!(
        actions,
        [
            Action::Report("shutdown: power off, asked by power button; at most 60 s".into()),
            Action::RemoveManifests,
            Action::WatchPods,
            Action::TellPods(at(33)),
        ]
    );
    let actions = node.step(Event::PodsGone, at(12));
    assert!(actions.contains(&Action::Signal(12, 15)), "kubelet");
    assert!(!actions.contains(&Action::Signal(10, 15)), "containerd waits for it");
    let actions = node.step(Event::Exited(12, Exit::Code(0)), at(13));
    assert!(actions.contains(&Action::Signal(10, 15)), "preload, a step, holds nothing up");
    let actions = node.step(Event::Exited(10, Exit::Code(0)), at(14));
    let rest = [Action::EndPods, Action::WatchPods, Action::TellPods(at(28))];
    assert!(actions.ends_with(&rest), "{actions:?}");
    let actions = node.step(Event::PodsGone, at(14));
    let [Action::Finish(Shutdown::PowerOff, last)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(last.left(at(14)), at(56), "what the others have left");
}

#[test]
fn services_are_stopped_in_the_very_step_in_which_the_pods_limit_passes() {
    let mut node = running();
    node.step(Event::Shutdown(Shutdown::Reboot, "test".into()), at(10));
    let told: Vec<_> = [20, 30, 40].map(|now| node.step(Event::Deadline, at(now))).into();
    assert_eq!(told, [23, 13, 3].map(|left| vec![Action::TellPods(at(left))]));
    assert_eq!(node.deadline(), Some(at(43)));
    assert!(node.step(Event::Deadline, at(43)).contains(&Action::Signal(12, 15)), "the kubelet");
}

#[test]
fn services_are_kept_up_while_pods_are_stopped_and_not_after() {
    let mut node = running();
    node.step(Event::Shutdown(Shutdown::Reboot, "test".into()), at(10));
    assert_eq!(spawns(&node.step(Event::Exited(10, Exit::Signal(9)), at(11))), [CONTAINERD]);
    node.step(Event::Spawned(CONTAINERD, 20), at(11));
    node.step(Event::PodsGone, at(12));
    assert_eq!(spawns(&node.step(Event::Exited(20, Exit::Signal(9)), at(12))), []);
    assert_eq!(spawns(&node.step(Event::Want(CONTAINERD, Wanted::Up), at(12))), []);
}

#[test]
fn without_a_kubelet_pods_are_told_to_end_once_the_services_have() {
    let mut node = node();
    node.begin(Time::ZERO);
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    let config = ShutdownLimits { pods_limit: Some(Seconds(120)), ..ShutdownLimits::default() };
    node.step(Event::Limits(Limits::of(&config), at(500)), at(1));
    let actions = node.step(Event::Shutdown(Shutdown::Halt, "test".into()), at(1));
    assert!(actions.contains(&Action::Signal(10, 15)));
    assert!(!actions.contains(&Action::WatchPods) && !actions.contains(&Action::EndPods));
    let actions = node.step(Event::Exited(10, Exit::Code(0)), at(2));
    let rest = [Action::EndPods, Action::WatchPods, Action::TellPods(at(120))];
    assert!(actions.ends_with(&rest), "{actions:?}");
    assert_eq!(node.step(Event::Deadline, at(121)), [Action::TellPods(at(1))]);
    assert_eq!(node.deadline(), Some(at(122)));
    assert!(matches!(node.step(Event::Deadline, at(122))[..], [Action::Finish(Shutdown::Halt, _)]));
}

#[test]
fn a_service_that_cannot_be_killed_does_not_stop_a_shutdown() {
    let mut node = running();
    node.step(Event::Shutdown(Shutdown::Reboot, "test".into()), at(10));
    node.step(Event::PodsGone, at(11));
    let mut now = at(11);
    let mut finished = false;
    while let Some(deadline) = node.deadline() {
        assert!(deadline > now, "no livelock");
        now = deadline;
        let actions = node.step(Event::Deadline, now);
        finished |= actions.iter().any(|action| matches!(action, Action::Finish(Shutdown::Reboot, _)));
    }
    assert!(finished && now <= at(10) + Limits::default().total - LAST_ACTS);
}

#[test]
fn services_that_ignore_term_share_the_time_and_each_is_told_to_end() {
    let mut node = running();
    node.step(Event::Shutdown(Shutdown::Reboot, "test".into()), at(10));
    node.step(Event::PodsGone, at(11));
    assert_eq!(node.deadline(), Some(at(16)), "half of the ten seconds");
    assert!(node.step(Event::Deadline, at(16)).contains(&Action::KillGroup(KUBELET_ID, 12)));
    let actions = node.step(Event::Exited(12, Exit::Signal(9)), at(16));
    assert!(actions.contains(&Action::Signal(10, 15)), "containerd is told to end: {actions:?}");
    assert_eq!(node.deadline(), Some(at(16) + Duration::from_millis(2500)));
}

#[test]
fn a_second_request_is_no_longer_patient_with_a_service_either() {
    let mut node = running();
    node.step(Event::Shutdown(Shutdown::Reboot, "test".into()), at(10));
    node.step(Event::PodsGone, at(11));
    node.step(Event::Shutdown(Shutdown::Reboot, "test".into()), at(12));
    assert_eq!(node.deadline(), Some(at(12) + HURRY_LIMIT / 2));
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
fn nothing_is_restarted_once_the_node_goes_down() {
    let mut node = running();
    node.step(Event::Shutdown(Shutdown::Reboot, "a test".into()), at(5));
    assert_eq!(node.step(Event::Restart(CONTAINERD), at(5)), []);
}

/// As [`running`], and the kubelet is asked: three failures in a row restart it. Up since 3 s.
fn asked() -> Supervisor {
    let mut services: Vec<Service> = running().records.into_iter().map(|record| record.service).collect();
    services[2].health = Some(Health {
        probe: Probe::Http("http://127.0.0.1:10248/healthz".into()),
        interval: at(10),
        timeout: at(10),
        failures: 3,
    });
    let mut node = Supervisor::new(services, Time::ZERO);
    node.begin(at(0));
    node.step(Event::Spawned(CONTAINERD, 10), at(0));
    node.step(Event::Ready(CONTAINERD), at(1));
    node.step(Event::Spawned(PRELOAD, 11), at(1));
    node.step(Event::Exited(11, Exit::Code(0)), at(2));
    node.step(Event::Spawned(KUBELET_ID, 12), at(2));
    node.step(Event::Ready(KUBELET_ID), at(3));
    node
}

fn fails(node: &mut Supervisor, seconds: u64) -> Vec<Action> {
    node.step(Event::Probed(KUBELET_ID, at(seconds), Some("no answer".into())), at(seconds + 5))
}

fn heals(node: &mut Supervisor, seconds: u64) -> Vec<Action> {
    node.step(Event::Probed(KUBELET_ID, at(seconds), None), at(seconds))
}

fn health(node: &Supervisor) -> super::Health<'_> {
    node.statuses().nth(KUBELET_ID.0).unwrap().health.unwrap()
}

fn report(line: &str) -> Action {
    Action::Report(line.into())
}

#[test]
fn one_that_fails_again_and_again_is_ended_by_its_rule_and_started_anew() {
    let mut node = asked();
    assert_eq!(health(&node), super::Health::Unknown);
    assert_eq!(heals(&mut node, 4), []);
    assert_eq!(health(&node), super::Health::Healthy);
    assert_eq!(fails(&mut node, 14), [report("kubelet: not healthy: no answer")]);
    assert_eq!(fails(&mut node, 24), [], "told once");
    assert_eq!(node.reason(KUBELET_ID), "not healthy, 2 of 3: no answer");
    assert_eq!(node.deadline(), None, "nobody waits for an answer");
    let actions = fails(&mut node, 34);
    assert!(actions.contains(&report("kubelet: unhealthy: no answer")), "{actions:?}");
    assert!(actions.contains(&Action::Signal(12, 15)), "{actions:?}");
    assert_eq!(node.reason(KUBELET_ID), "unhealthy: no answer");
    // Stopped processes do not take SIGTERM.
    assert!(node.step(Event::Deadline, at(49)).contains(&Action::KillGroup(KUBELET_ID, 12)));
    assert_eq!(spawns(&node.step(Event::Exited(12, Exit::Signal(9)), at(49))), [KUBELET_ID]);
    let status = node.statuses().nth(KUBELET_ID.0).unwrap();
    let death = status.deaths.last().unwrap();
    assert_eq!((death.exit, death.reason.as_str()), (Some(Exit::Signal(9)), "unhealthy: no answer"));
    assert_eq!((health(&node), state(&node, CONTAINERD)), (super::Health::Unknown, State::Up));
}

#[test]
fn failures_count_in_a_row_only_and_of_this_life_only() {
    let mut node = asked();
    heals(&mut node, 4);
    for n in 1..10 {
        fails(&mut node, n * 100);
        fails(&mut node, n * 100 + 10);
        assert_eq!(heals(&mut node, n * 100 + 20), [report("kubelet: healthy again")]);
    }
    fails(&mut node, 2000);
    fails(&mut node, 2010);
    // It ends by itself and comes back; an answer of before says nothing.
    node.step(Event::Exited(12, Exit::Code(1)), at(2018));
    node.step(Event::Spawned(KUBELET_ID, 13), at(2018));
    assert_eq!(fails(&mut node, 2019), [], "not up");
    node.step(Event::Ready(KUBELET_ID), at(2024));
    assert_eq!(fails(&mut node, 2020), []);
    assert_eq!(health(&node), super::Health::Unknown);
}

#[test]
fn one_that_never_was_healthy_has_its_ready_limit() {
    let mut node = asked();
    for seconds in [4, 5, 6, 7, 8, 16] {
        fails(&mut node, seconds);
        assert_eq!(state(&node, KUBELET_ID), State::Up, "{seconds}");
    }
    fails(&mut node, 17);
    assert!(matches!(state(&node, KUBELET_ID), State::Stopping { .. }), "20 s after its start");
    let mut node = asked();
    node.records[2].service.ready_limit = None;
    (1..100).for_each(|n| drop(fails(&mut node, n * 1000)));
    assert_eq!(state(&node, KUBELET_ID), State::Up, "without a limit for ever");
}

#[test]
fn nobody_is_restarted_for_an_answer_who_is_not_asked_or_on_the_way_down() {
    let mut node = asked();
    for _ in 0..9 {
        assert_eq!(node.step(Event::Probed(CONTAINERD, at(9), Some("x".into())), at(9)), []);
    }
    heals(&mut node, 4);
    node.step(Event::Shutdown(Shutdown::Reboot, "a test".into()), at(10));
    (0..9).for_each(|_| assert_eq!(fails(&mut node, 11), []));
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
