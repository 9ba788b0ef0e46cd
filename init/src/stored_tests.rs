//! A vault on a folder of its own.

use super::*;
use podium_init::store::{HISTORY, choose};
use tempfile::TempDir;

fn vault() -> (TempDir, Vault) {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::at(&dir.path().join("config.yaml"), &dir.path().join("config"));
    (dir, vault)
}

fn apply(vault: &Vault, text: &str) -> u64 {
    let proposal = vault.propose(text.as_bytes(), "test").unwrap();
    vault.commit(&proposal, Slot::Current).unwrap()
}

fn text(vault: &Vault, slot: Slot) -> Option<String> {
    let bytes = vault.read(slot).unwrap()?;
    Some(String::from_utf8(open(&bytes).unwrap().text.to_vec()).unwrap())
}

#[test]
fn generations_count_up_and_the_history_is_bounded() {
    let (_dir, vault) = vault();
    assert_eq!(vault.holdings(), Holdings::default());
    for number in 1..=HISTORY as u64 + 3 {
        assert_eq!(apply(&vault, &format!("text {number}")), number);
    }
    let history: Vec<u64> = vault.history().iter().map(|entry| entry.generation).collect();
    assert_eq!(history.len(), HISTORY);
    assert_eq!((history.first(), history.last()), (Some(&13), Some(&4)));
    assert_eq!(vault.recall(5).unwrap(), b"text 5");
    assert!(vault.recall(1).unwrap_err().to_string().contains("no generation 1"));
}

#[test]
fn a_proposal_changes_nothing_until_it_is_committed() {
    let (_dir, vault) = vault();
    apply(&vault, "one");
    let proposal = vault.propose(b"two", "test").unwrap();
    assert_eq!((text(&vault, Slot::Current).as_deref(), proposal.generation), (Some("one"), 2));
    drop(proposal);
    assert_eq!(apply(&vault, "three"), 2, "a generation that never was is given again");
}

#[test]
fn a_proven_config_is_the_good_one_and_stays_it() {
    let (_dir, vault) = vault();
    apply(&vault, "one");
    vault.prove().unwrap();
    apply(&vault, "two");
    assert_eq!(text(&vault, Slot::Good).as_deref(), Some("one"));
    let holdings = vault.holdings();
    assert_eq!((holdings.current, holdings.good, holdings.unproven_boots), (Some(2), Some(1), 0));
}

#[test]
fn unproven_boots_are_counted_for_their_generation_alone() {
    let (_dir, vault) = vault();
    apply(&vault, "one");
    vault.prove().unwrap();
    apply(&vault, "two");
    for boots in 1..=2 {
        vault.count_boot(&vault.holdings()).unwrap();
        assert_eq!(vault.holdings().unproven_boots, boots);
    }
    assert_eq!(choose(&vault.holdings())[0], Slot::Good);
    apply(&vault, "three");
    assert_eq!(vault.holdings().unproven_boots, 0);
}

#[test]
fn a_staged_config_becomes_the_current_one_as_it_is() {
    let (_dir, vault) = vault();
    apply(&vault, "one");
    let proposal = vault.propose(b"two", "test").unwrap();
    assert_eq!(vault.commit(&proposal, Slot::Staged).unwrap(), 2);
    assert_eq!(text(&vault, Slot::Current).as_deref(), Some("one"));
    vault.make_current(Slot::Staged).unwrap();
    assert_eq!(text(&vault, Slot::Current).as_deref(), Some("two"));
    assert_eq!((vault.generation(Slot::Current), vault.generation(Slot::Staged)), (Some(2), None));
}

#[test]
fn what_is_rejected_is_moved_aside_and_the_oldest_of_many_goes() {
    let (_dir, vault) = vault();
    let mut places = Vec::new();
    for number in 0..REJECTED + 2 {
        apply(&vault, &format!("text {number}"));
        places.push(vault.set_aside(Slot::Current).unwrap());
        assert_eq!(vault.read(Slot::Current).unwrap(), None);
    }
    assert_eq!(places.iter().filter(|place| place.exists()).count(), REJECTED);
    assert!(!places[0].exists() && places[REJECTED + 1].exists());
}

#[test]
fn a_persons_file_is_not_lost_when_another_config_takes_its_place() {
    let (dir, vault) = vault();
    std::fs::write(vault.path(Slot::Current), "by hand").unwrap();
    assert_eq!(vault.generation(Slot::Current), Some(0));
    apply(&vault, "one");
    assert_eq!(std::fs::read(dir.path().join("config/by-hand-1.yaml")).unwrap(), b"by hand");
    std::fs::write(vault.path(Slot::Current), "two").unwrap();
    apply(&vault, "two");
    assert!(!dir.path().join("config/by-hand-2.yaml").exists(), "it is the proposal itself");
}

#[test]
fn a_damaged_one_is_there_and_has_no_generation() {
    let (_dir, vault) = vault();
    apply(&vault, "one");
    let path = vault.path(Slot::Current);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(vault.generation(Slot::Current), Some(0));
}

#[test]
fn a_file_put_there_by_hand_is_sealed_unless_a_newer_one_has_come() {
    let (_dir, vault) = vault();
    std::fs::write(vault.path(Slot::Current), "one").unwrap();
    assert_eq!(vault.seal_current(b"one", "by hand").unwrap(), Some(1));
    assert_eq!(
        (text(&vault, Slot::Current).as_deref(), vault.generation(Slot::Current)),
        (Some("one"), Some(1))
    );
    std::fs::write(vault.path(Slot::Current), "newer").unwrap();
    assert_eq!(vault.seal_current(b"two", "by hand").unwrap(), None);
    assert_eq!(std::fs::read(vault.path(Slot::Current)).unwrap(), b"newer");
}

#[test]
fn what_waited_for_the_next_boot_does_not_undo_what_is_applied_later() {
    let (_dir, vault) = vault();
    let staged = vault.propose(b"staged", "test").unwrap();
    vault.commit(&staged, Slot::Staged).unwrap();
    apply(&vault, "later");
    assert_eq!(vault.holdings().staged, None);
}

#[test]
fn what_the_disk_does_not_keep_is_not_acknowledged_and_changes_nothing() {
    let (_dir, vault) = vault();
    let fails = |_: &Path| Err(anyhow::anyhow!("Input/output error"));
    let proposal = vault.propose(b"one", "test").unwrap();
    assert!(vault.commit_by(&proposal, Slot::Current, fails).is_err());
    assert_eq!(vault.read(Slot::Current).unwrap(), None);
    apply(&vault, "one");
    let proposal = vault.propose(b"two", "test").unwrap();
    let error = format!("{:#}", vault.commit_by(&proposal, Slot::Current, fails).unwrap_err());
    assert!(error.contains("the one before is there again: Input/output error"), "{error}");
    assert_eq!(text(&vault, Slot::Current).as_deref(), Some("one"));
    apply(&vault, "two");
    assert_eq!(text(&vault, Slot::Current).as_deref(), Some("two"));
}

#[test]
fn a_config_is_kept_until_it_proves_itself_or_another_comes() {
    let (_dir, vault) = vault();
    apply(&vault, "one");
    vault.prove().unwrap();
    apply(&vault, "two");
    vault.count_boot(&vault.holdings()).unwrap();
    vault.keep(Kept::Always).unwrap();
    assert_eq!((vault.holdings().kept, vault.holdings().unproven_boots), (Some(Kept::Always), 0));
    apply(&vault, "three");
    assert_eq!(vault.holdings().kept, None, "it was of another one");
    vault.keep(Kept::WithKubelet).unwrap();
    vault.prove().unwrap();
    assert_eq!(vault.holdings().kept, None);
}

#[test]
fn each_step_back_leads_to_an_earlier_config_that_was_good() {
    let (_dir, vault) = vault();
    assert!(vault.before().is_err());
    for text in ["one", "two", "never good", "four"] {
        apply(&vault, text);
        if text != "never good" {
            vault.prove().unwrap();
        }
    }
    let back = || {
        let generation = vault.before().unwrap();
        let text = vault.recall(generation).unwrap();
        let proposal = vault.propose(&text, &podium_init::store::again(generation, "test")).unwrap();
        vault.commit(&proposal, Slot::Current).unwrap();
        vault.prove().unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!((back().as_str(), back().as_str()), ("two", "one"));
    assert!(vault.before().is_err(), "there is none before the first");
    apply(&vault, "new");
    assert_eq!(vault.recall(vault.before().unwrap()).unwrap(), b"one", "the last that was good");
}

#[test]
fn a_node_has_had_a_config_once_any_trace_of_one_is_there() {
    let (_dir, fresh) = vault();
    assert!(!fresh.has_had_one());
    fresh.propose(b"text", "test").unwrap();
    assert!(!fresh.has_had_one(), "a power cut before the commit leaves this");
    let (_dir, staged) = vault();
    let proposal = staged.propose(b"text", "test").unwrap();
    staged.commit(&proposal, Slot::Staged).unwrap();
    assert!(staged.has_had_one());
    let (_dir, damaged) = vault();
    apply(&damaged, "one");
    damaged.set_aside(Slot::Current).unwrap();
    assert_eq!(damaged.holdings(), Holdings::default());
    assert!(damaged.has_had_one(), "what was set aside was one");
    let (dir, mended) = vault();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    assert!(!mended.has_had_one());
    std::fs::write(dir.path().join("lost+found/#12"), "").unwrap();
    assert!(mended.has_had_one(), "what e2fsck found may be one");
    let (dir, unreadable) = vault();
    std::fs::write(dir.path().join("config"), "").unwrap();
    assert!(unreadable.has_had_one(), "a folder that cannot be looked at");
}
