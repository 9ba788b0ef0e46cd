//! A node's configs under a simulated clock.

use super::super::waiting::RETRY_DELAY;
use super::*;

fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn applied(standing: Standing) -> Event {
    let applied = Applied {
        generation: 2,
        standing,
        pods: 1,
        refused: 0,
        failed: 0,
        waits: false,
        services: None,
        restart: Vec::new(),
        reboot: None,
    };
    Event::Ended(Ok(Report::Applied(applied.into())))
}

fn apply() -> Event {
    Event::Started(Ask::Apply {
        mode: super::super::Mode::Auto,
        dry_run: false,
        limit: None,
        first: false,
        by: String::new(),
    })
}

/// A node that is well since long ago, at second 100.
fn well() -> Policy {
    let mut policy = Policy::default();
    policy.step(Event::Kubelet(true), at(5));
    assert_eq!(policy.step(Event::Pods(true), at(6)), []);
    assert_eq!(policy.deadline(), None);
    policy
}

fn starts(actions: &[Action]) -> Vec<&Ask> {
    actions
        .iter()
        .filter_map(|action| if let Action::Start(ask) = action { Some(ask) } else { None })
        .collect()
}

/// Lets time pass deadline by deadline; the starts that come, with their times.
fn run(policy: &mut Policy, until: Time) -> Vec<(Time, Ask)> {
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let Some(next) = policy.deadline().filter(|next| *next <= until) else { return seen };
        let actions = policy.step(Event::Deadline, next);
        seen.extend(starts(&actions).into_iter().map(|ask| (next, ask.clone())));
        if policy.is_busy() {
            return seen;
        }
    }
    panic!("livelock at {:?}", policy.deadline());
}

#[test]
fn a_config_under_which_all_stays_up_becomes_the_last_known_good_one() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(PROOF_LIMIT)), at(101));
    assert_eq!(run(&mut policy, at(900)), [(at(101) + SOAK, Ask::Prove)]);
    policy.step(Event::Ended(Ok(Report::Proved)), at(140));
    assert_eq!((policy.phase(), policy.deadline()), (Phase::Settled, None));
}

#[test]
fn one_under_which_a_pod_does_not_come_up_is_reverted_at_its_limit() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(at(60))), at(101));
    policy.step(Event::Pods(false), at(102));
    let [(time, Ask::Revert { why })] = &run(&mut policy, at(900))[..] else { panic!() };
    assert_eq!((*time, why.contains("pods")), (at(161), true));
    let actions = policy.step(applied(Standing::Good), at(162));
    assert!(
        matches!(&actions[0], Action::Report(line) if line.starts_with("back to config 2")),
        "{actions:?}"
    );
    assert_eq!((policy.phase(), policy.deadline()), (Phase::Settled, None));
}

#[test]
fn a_break_starts_the_soak_again() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(PROOF_LIMIT)), at(100));
    policy.step(Event::Kubelet(false), at(129));
    policy.step(Event::Kubelet(true), at(131));
    assert_eq!(run(&mut policy, at(900)), [(at(131) + SOAK, Ask::Prove)]);
}

#[test]
fn a_node_that_was_not_well_keeps_the_new_config() {
    let mut policy = well();
    policy.step(Event::Pods(false), at(90));
    policy.step(apply(), at(100));
    let actions = policy.step(applied(Standing::OnProof(at(60))), at(101));
    assert_eq!(starts(&actions), [&Ask::Keep { kept: Kept::WithKubelet }], "a boot knows it, too");
    policy.step(Event::Ended(Ok(Report::Kept)), at(102));
    assert_eq!(run(&mut policy, at(900)), []);
    assert_eq!((policy.phase(), policy.deadline()), (Phase::Unproven, None));
    policy.step(Event::Pods(true), at(1000));
    assert_eq!(run(&mut policy, at(1100)), [(at(1000) + SOAK, Ask::Prove)], "late, but well");
}

#[test]
fn the_only_config_is_kept_and_proved_when_it_can_be() {
    let mut policy = Policy::default();
    policy.step(apply(), at(10));
    policy.step(applied(Standing::Only), at(11));
    policy.step(Event::Kubelet(true), at(20));
    policy.step(Event::Pods(true), at(40));
    assert_eq!(run(&mut policy, at(900)), [(at(40) + SOAK, Ask::Prove)]);
}

#[test]
fn a_tried_config_goes_when_its_time_is_over_however_well_it_is() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::Tried(at(60))), at(100));
    assert!(matches!(&run(&mut policy, at(900))[..], [(time, Ask::Revert { .. })] if *time == at(160)));
}

#[test]
fn a_config_applied_over_a_tried_one_stays() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::Tried(at(60))), at(100));
    policy.step(apply(), at(120));
    policy.step(applied(Standing::OnProof(PROOF_LIMIT)), at(121));
    assert_eq!(run(&mut policy, at(900)), [(at(121) + SOAK, Ask::Prove)]);
}

#[test]
fn a_node_that_has_just_booted_its_last_known_good_config_goes_back_to_it() {
    for (since, goes_back) in [(12, true), (299, true), (2 + 300, false)] {
        let mut policy = Policy::default();
        policy.step(Event::Booted(None), at(2));
        policy.step(Event::Kubelet(true), at(9));
        policy.step(apply(), at(since));
        let actions = policy.step(applied(Standing::OnProof(at(60))), at(since));
        assert_eq!(starts(&actions).is_empty(), goes_back, "{since}: {actions:?}");
        if goes_back {
            let seen = run(&mut policy, at(900));
            assert!(matches!(&seen[..], [(_, Ask::Revert { .. })]), "{since}: {seen:?}");
        }
    }
    // Once it has been well, how it is counts and nothing else.
    let mut policy = Policy::default();
    policy.step(Event::Booted(None), at(2));
    policy.step(Event::Kubelet(true), at(9));
    policy.step(Event::Pods(true), at(10));
    policy.step(Event::Kubelet(false), at(40));
    policy.step(apply(), at(50));
    let actions = policy.step(applied(Standing::OnProof(at(60))), at(51));
    assert_eq!(starts(&actions), [&Ask::Keep { kept: Kept::Always }]);
}

#[test]
fn a_chain_of_bad_configs_is_measured_by_the_last_good_time() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(at(60))), at(101));
    policy.step(Event::Pods(false), at(102));
    policy.step(apply(), at(110));
    policy.step(applied(Standing::OnProof(at(60))), at(111));
    assert!(matches!(&run(&mut policy, at(900))[..], [(time, Ask::Revert { .. })] if *time == at(171)));
}

#[test]
fn an_unproven_config_of_a_boot_is_reverted_too() {
    let mut policy = Policy::default();
    policy.step(Event::Booted(Some(Proof::OrBack(None))), at(2));
    policy.step(Event::Kubelet(true), at(9));
    let seen = run(&mut policy, at(900));
    assert!(matches!(&seen[..], [(time, Ask::Revert { .. })] if *time == at(2) + PROOF_LIMIT), "{seen:?}");
    let mut policy = Policy::default();
    policy.step(Event::Booted(None), at(2));
    assert_eq!(policy.deadline(), None);
}

#[test]
fn one_change_at_a_time_and_what_comes_meanwhile_is_not_lost() {
    let mut policy = well();
    let file = || Ask::File { path: "/c".into() };
    assert_eq!(starts(&policy.step(Event::FileChanged("/c".into()), at(100))), [&file()]);
    assert!(policy.is_busy());
    assert_eq!(policy.step(Event::FileChanged("/c".into()), at(100)), []);
    assert_eq!(policy.step(Event::ManifestsChanged, at(100)), []);
    let nothing = || Event::Ended(Ok(Report::Nothing { why: None }));
    assert_eq!(starts(&policy.step(nothing(), at(101))), [&file()]);
    assert_eq!(starts(&policy.step(nothing(), at(102))), [&Ask::Repair]);
    assert_eq!(policy.step(Event::Ended(Ok(Report::Repaired { failed: 0, waits: false })), at(103)), []);
    assert_eq!(run(&mut policy, at(999)), []);
}

#[test]
fn whoever_writes_in_a_loop_is_followed_no_closer_than_the_bound() {
    let mut policy = well();
    let mut done = 0;
    for millisecond in 0..60_000 {
        let now = at(100) + Duration::from_millis(millisecond);
        done += starts(&policy.step(Event::ManifestsChanged, now)).len();
        if policy.is_busy() {
            done += starts(&policy.step(Event::Ended(Ok(Report::Repaired { failed: 0, waits: false })), now))
                .len();
        }
    }
    assert!((60..=80).contains(&done), "{done}");
}

#[test]
fn what_a_change_that_was_killed_has_left_is_repaired_and_a_repair_that_fails_is_tried_again() {
    let mut policy = well();
    policy.step(apply(), at(100));
    assert_eq!(policy.deadline(), None, "its limit is the reactor's");
    let actions = policy.step(Event::Ended(Err("signal 9".into())), at(220));
    assert_eq!(starts(&actions), [&Ask::Repair]);
    let mut now = at(230);
    for delay in [30, 60, 120, 240, 480, 480] {
        policy.step(Event::Ended(Err("signal 9".into())), now);
        assert_eq!(policy.deadline(), Some(now + at(delay)));
        now += at(delay);
        assert_eq!(starts(&policy.step(Event::Deadline, now)), [&Ask::Repair]);
    }
    policy.step(Event::Ended(Ok(Report::Repaired { failed: 1, waits: false })), now);
    assert_eq!(policy.deadline(), Some(now + at(480)), "one file was left");
    now += at(480);
    policy.step(Event::Deadline, now);
    policy.step(Event::Ended(Ok(Report::Repaired { failed: 0, waits: false })), now);
    assert_eq!(run(&mut policy, now + at(9999)), []);
}

#[test]
fn what_was_held_is_done_at_once_and_looked_at_later_when_nobody_waits_for_it() {
    let mut policy = well();
    let actions = policy.step(Event::Waited(true), at(100));
    assert_eq!(actions, [Action::Start(Ask::Repair)]);
    // While that runs more comes free.
    assert_eq!(policy.step(Event::Waited(true), at(101)), []);
    let repaired = || Event::Ended(Ok(Report::Repaired { failed: 0, waits: true }));
    assert_eq!(policy.step(repaired(), at(101)), [Action::Start(Ask::Repair)]);
    assert_eq!(policy.step(repaired(), at(102)), []);
    assert_eq!(policy.step(Event::Waited(false), at(103)), []);
    assert_eq!(policy.deadline(), Some(at(103) + RETRY_DELAY));
}

#[test]
fn pods_that_come_free_one_after_the_other_keep_nothing_waiting() {
    let mut policy = well();
    for _ in 0..30 {
        assert_eq!(policy.step(Event::Waited(true), at(100)), [Action::Start(Ask::Repair)]);
        // Its own write is seen: one look, which finds nothing.
        policy.step(Event::ManifestsChanged, at(100));
        let repaired = || Event::Ended(Ok(Report::Repaired { failed: 0, waits: true }));
        assert_eq!(policy.step(repaired(), at(100)), [Action::Start(Ask::Repair)]);
        assert_eq!(policy.step(repaired(), at(100)), []);
    }
    let file = || "/c".to_owned();
    assert_eq!(policy.step(Event::FileChanged(file()), at(100)), [Action::Start(Ask::File { path: file() })]);
}

#[test]
fn a_file_whose_change_was_killed_is_not_forgotten() {
    let file = || Ask::File { path: "/c".into() };
    for result in [Err("signal 9".to_owned()), Ok(Report::Failed { why: "no memory".into() })] {
        let mut policy = well();
        policy.step(Event::FileChanged("/c".into()), at(100));
        policy.step(Event::Ended(result), at(101));
        while policy.is_busy() {
            policy.step(Event::Ended(Ok(Report::Repaired { failed: 0, waits: false })), at(101));
        }
        assert_eq!(run(&mut policy, at(900)), [(at(101) + RETRY_DELAY, file())]);
    }
}

#[test]
fn what_a_change_stirs_up_itself_does_not_use_up_the_bound() {
    let mut policy = well();
    let nothing = || Event::Ended(Ok(Report::Nothing { why: None }));
    for edit in 0..9 {
        let now = at(100) + Duration::from_millis(edit * 1000);
        let actions = policy.step(Event::FileChanged("/c".into()), now);
        assert_eq!(starts(&actions).len(), 1, "edit {edit} is taken at once");
        // Its own renames.
        policy.step(Event::FileChanged("/c".into()), now);
        policy.step(Event::ManifestsChanged, now);
        policy.step(applied(Standing::Good), now);
        assert!(policy.is_busy());
        policy.step(nothing(), now);
        policy.step(Event::Ended(Ok(Report::Repaired { failed: 0, waits: false })), now);
        assert!(!policy.is_busy());
    }
}

#[test]
fn a_kubelet_that_a_config_breaks_is_brought_back_though_a_pod_was_down_before() {
    let mut policy = well();
    policy.step(Event::Pods(false), at(90));
    policy.step(apply(), at(100));
    policy.step(Event::Kubelet(false), at(101));
    policy.step(applied(Standing::OnProof(at(60))), at(101));
    policy.step(Event::Ended(Ok(Report::Kept)), at(101));
    // It comes up now and then, and is up at the limit.
    policy.step(Event::Kubelet(true), at(158));
    assert_eq!(run(&mut policy, at(170)), [], "one that has just come up gets its time");
    let actions = policy.step(Event::Kubelet(false), at(171));
    assert!(matches!(starts(&actions)[..], [Ask::Revert { why }] if why.contains("kubelet")), "{actions:?}");

    let mut policy = well();
    policy.step(Event::Pods(false), at(90));
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(at(60))), at(101));
    policy.step(Event::Ended(Ok(Report::Kept)), at(101));
    assert_eq!(run(&mut policy, at(900)), [], "the kubelet is up: it is kept");
    assert_eq!(policy.phase(), Phase::Unproven);
}

#[test]
fn what_was_kept_is_kept_after_a_boot_too() {
    let after_boot = |kept| {
        let mut policy = Policy::default();
        policy.step(Event::Booted(Some(Proof::OrBack(Some(kept)))), at(2));
        policy
    };
    let mut policy = after_boot(Kept::Always);
    assert_eq!(run(&mut policy, at(900)), []);
    assert_eq!(policy.phase(), Phase::Unproven);
    let mut policy = after_boot(Kept::WithKubelet);
    assert!(matches!(&run(&mut policy, at(900))[..], [(_, Ask::Revert { .. })]), "no kubelet");
    let mut policy = after_boot(Kept::WithKubelet);
    policy.step(Event::Kubelet(true), at(9));
    assert_eq!(run(&mut policy, at(900)), []);
}

#[test]
fn a_config_that_needs_a_reboot_gets_it() {
    let mut policy = well();
    policy.step(apply(), at(100));
    let staged = |reboot: Option<&str>| {
        Event::Ended(Ok(Report::Staged { generation: 4, reboot: reboot.map(str::to_owned) }))
    };
    assert_eq!(policy.step(staged(Some("x")), at(101)), [Action::Reboot("x".into())]);
    policy.step(apply(), at(102));
    assert!(matches!(&policy.step(staged(None), at(103))[..], [Action::Report(_)]));
    let Event::Ended(Ok(Report::Applied(mut back))) = applied(Standing::Good) else { panic!() };
    back.reboot = Some("y".to_owned());
    policy.step(Event::Started(Ask::Revert { why: String::new() }), at(104));
    let actions = policy.step(Event::Ended(Ok(Report::Applied(back))), at(105));
    assert_eq!(actions.last(), Some(&Action::Reboot("y".into())), "so does the way back from one");
}

#[test]
fn what_a_change_shows_before_it_has_ended_does_not_count_against_the_node() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(Event::Pods(false), at(101));
    policy.step(applied(Standing::OnProof(at(60))), at(102));
    assert!(matches!(&run(&mut policy, at(900))[..], [(time, Ask::Revert { .. })] if *time == at(162)));
    policy.step(applied(Standing::Good), at(163));
    policy.step(Event::Pods(true), at(165));
    policy.step(apply(), at(170));
    policy.step(Event::Pods(false), at(171));
    policy.step(applied(Standing::OnProof(at(60))), at(172));
    let seen = run(&mut policy, at(900));
    assert!(matches!(&seen[..], [(_, Ask::Revert { .. })]), "what came back was well: {seen:?}");
}

#[test]
fn one_that_is_well_at_its_limit_gets_the_rest_of_the_soak() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(at(10))), at(101));
    assert_eq!(run(&mut policy, at(900)), [(at(101) + SOAK, Ask::Prove)]);
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(at(10))), at(101));
    let actions = policy.step(Event::Pods(false), at(120));
    assert!(matches!(starts(&actions)[..], [Ask::Revert { .. }]), "a break after the limit is the end of it");
}

#[test]
fn a_revert_or_a_proof_that_fails_is_tried_again() {
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::Tried(at(60))), at(100));
    assert_eq!(run(&mut policy, at(170)).len(), 1);
    policy.step(Event::Ended(Err("no memory".into())), at(171));
    while policy.is_busy() {
        policy.step(Event::Ended(Ok(Report::Repaired { failed: 0, waits: false })), at(171));
    }
    assert!(
        matches!(&run(&mut policy, at(900))[..], [(time, Ask::Revert { .. })] if *time == at(171) + RETRY_DELAY)
    );

    // What somebody applies meanwhile is not taken back by it.
    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::Tried(at(60))), at(100));
    assert_eq!(run(&mut policy, at(170)).len(), 1);
    policy.step(Event::Ended(Ok(Report::Failed { why: "no memory".into() })), at(171));
    policy.step(apply(), at(180));
    policy.step(applied(Standing::OnProof(PROOF_LIMIT)), at(181));
    assert_eq!(run(&mut policy, at(900)), [(at(181) + SOAK, Ask::Prove)]);

    let mut policy = well();
    policy.step(apply(), at(100));
    policy.step(applied(Standing::OnProof(PROOF_LIMIT)), at(100));
    assert_eq!(run(&mut policy, at(900)), [(at(130), Ask::Prove)]);
    policy.step(Event::Ended(Err("no space".into())), at(131));
    assert_eq!(run(&mut policy, at(900)), [(at(131) + RETRY_DELAY, Ask::Prove)]);
    assert_eq!(policy.phase(), Phase::OnProof(at(100) + PROOF_LIMIT), "not before it is stored");
}
