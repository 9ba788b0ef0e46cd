//! What follows from the prober's answers.

use super::*;

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

fn health(node: &Supervisor) -> super::super::Health<'_> {
    node.statuses().nth(KUBELET_ID.0).unwrap().health.unwrap()
}

#[test]
fn one_that_fails_again_and_again_is_ended_by_its_rule_and_started_anew() {
    let mut node = asked();
    assert_eq!(health(&node), super::super::Health::Unknown);
    assert_eq!(heals(&mut node, 4), []);
    assert_eq!(health(&node), super::super::Health::Healthy);
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
    assert_eq!((health(&node), state(&node, CONTAINERD)), (super::super::Health::Unknown, State::Up));
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
    assert_eq!(health(&node), super::super::Health::Unknown);
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
fn our_own_sigkill_is_not_the_oom_killers() {
    let mut node = asked();
    for second in [10, 20, 30] {
        fails(&mut node, second);
    }
    node.step(Event::Deadline, at(60));
    let actions = node.step(Event::Exited(12, Exit::OomKilled), at(61));
    assert!(actions.contains(&report("kubelet: ended, signal 9; next start now")), "{actions:?}");
}
