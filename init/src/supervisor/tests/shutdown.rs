//! How services end with the node.

use super::*;

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
fn nothing_is_restarted_once_the_node_goes_down() {
    let mut node = running();
    node.step(Event::Shutdown(Shutdown::Reboot, "a test".into()), at(5));
    assert_eq!(node.step(Event::Restart(CONTAINERD), at(5)), []);
}
