//! Which pods are in the list, so that one that the kubelet refuses does not cost the others.
//!
//! A kubelet refuses a whole list for one pod that its version does not take, and says so in its log, without a name.
//! So what is new is tried beside what was taken before: all of it first, and when that is refused by halves, until
//! the one is found. It then keeps its last version that was taken, or stays away, until its file changes. What was
//! taken is never left out of a trial: the kubelet would end it.
//!
//! Pure: files, the log's word and requests come in, the list goes out.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The requests that a trial lasts. The second gets the same list again: the kubelet does not read it twice, which
/// ends its count of failures (after three in a row it would refuse silently), and its word has time to arrive.
const REQUESTS: u32 = 2;

/// By file name: the pod's text.
pub(super) type Pods = BTreeMap<String, String>;

/// What outlives a run of this program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// Pods that the kubelet refuses, as they are.
    refused: Pods,
    /// The last versions of those that it took: it would end them if they were not in the list.
    taken: Pods,
}

/// See the file's doc.
#[derive(Debug, Default)]
pub(super) struct Trials {
    wanted: Pods,
    taken: Pods,
    /// As they were when they were refused.
    refused: Pods,
    /// To be tried, the last first.
    groups: Vec<Vec<String>>,
    trial: Option<Trial>,
}

#[derive(Debug)]
struct Trial {
    names: Vec<String>,
    requests: u32,
    was_refused: bool,
}

impl Trials {
    /// With what an earlier run of this program has found.
    pub(super) fn knowing(Memory { refused, taken }: Memory) -> Self {
        Self { refused, taken, ..Self::default() }
    }

    /// What a later run needs to know.
    pub(super) fn memory(&self) -> Memory {
        let mut taken = self.taken.clone();
        taken.retain(|name, _| self.refused.contains_key(name));
        Memory { refused: self.refused.clone(), taken }
    }

    /// Takes a request: the files as they are, and whether the kubelet has refused a list since the last one.
    pub(super) fn step(&mut self, wanted: &Pods, was_refused: bool) {
        if *wanted != self.wanted {
            // What was said of the list before is not said of this one.
            self.want(wanted);
        } else if let Some(mut trial) = self.trial.take() {
            trial.requests += 1;
            trial.was_refused |= was_refused;
            if trial.requests < REQUESTS {
                self.trial = Some(trial);
            } else if trial.was_refused {
                self.split(trial.names);
            } else {
                let text = |name: String| self.wanted.get(&name).cloned().map(|text| (name, text));
                self.taken.extend(trial.names.into_iter().filter_map(text).collect::<Pods>());
            }
        }
        if self.trial.is_none() {
            self.trial = self.groups.pop().map(|names| Trial { names, requests: 0, was_refused: false });
        }
    }

    /// What the kubelet gets now.
    pub(super) fn list(&self) -> BTreeMap<&str, &str> {
        let mut list: BTreeMap<&str, &str> =
            self.taken.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        for name in self.trial.iter().flat_map(|trial| &trial.names) {
            if let Some(text) = self.wanted.get(name) {
                list.insert(name, text);
            }
        }
        list
    }

    /// What was refused and is still so in its file.
    pub(super) fn refused(&self) -> &Pods {
        &self.refused
    }

    fn want(&mut self, wanted: &Pods) {
        self.wanted.clone_from(wanted);
        self.taken.retain(|name, _| wanted.contains_key(name));
        self.refused.retain(|name, text| wanted.get(name) == Some(text));
        let known = |name: &str, text: &String| {
            self.taken.get(name) == Some(text) || self.refused.get(name) == Some(text)
        };
        let new: BTreeSet<&String> =
            wanted.iter().filter(|(name, text)| !known(name, text)).map(|(name, _)| name).collect();
        let new: Vec<String> = new.into_iter().cloned().collect();
        self.trial = None;
        self.groups = if new.is_empty() { Vec::new() } else { vec![new] };
    }

    /// One of them is refused.
    fn split(&mut self, mut names: Vec<String>) {
        if names.len() > 1 {
            let second = names.split_off(names.len() / 2);
            self.groups.extend([second, names]);
            return;
        }
        for name in names {
            if let Some(text) = self.wanted.get(&name) {
                self.refused.insert(name, text.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kubelet that refuses texts with an x in them, and what it runs.
    #[derive(Default)]
    struct Kubelet {
        read: Pods,
        runs: Pods,
        refusals: u32,
        in_a_row: u32,
    }

    impl Kubelet {
        /// Asks once; whether it refused.
        fn ask(&mut self, trials: &mut Trials, files: &Pods, refused: bool) -> bool {
            trials.step(files, refused);
            let list: Pods = trials.list().iter().map(|(&a, &b)| (a.to_owned(), b.to_owned())).collect();
            if list == self.read {
                self.in_a_row = 0;
                return false;
            }
            self.read.clone_from(&list);
            if list.values().any(|text| text.contains('x')) {
                self.refusals += 1;
                self.in_a_row += 1;
                assert!(self.in_a_row <= 3, "it would not say so any more");
                return true;
            }
            for name in self.runs.keys() {
                assert!(list.contains_key(name) || !files.contains_key(name), "{name} was ended");
            }
            self.in_a_row = 0;
            self.runs = list;
            false
        }

        /// Asks until nothing changes any more; how often.
        fn settle(&mut self, trials: &mut Trials, files: &Pods) -> usize {
            let mut refused = false;
            for asked in 0..10_000 {
                refused = self.ask(trials, files, refused);
                if !refused && trials.trial.is_none() && trials.groups.is_empty() {
                    return asked;
                }
            }
            panic!("it never settles");
        }
    }

    fn files(texts: &[&str]) -> Pods {
        texts.iter().enumerate().map(|(index, text)| (format!("{index:03}"), (*text).to_owned())).collect()
    }

    #[test]
    fn good_pods_are_all_in_the_first_list() {
        let (mut trials, mut kubelet) = (Trials::default(), Kubelet::default());
        let all = files(&["a", "b", "c"]);
        assert!(!kubelet.ask(&mut trials, &all, false));
        assert_eq!(kubelet.runs, all);
        let changed = files(&["a", "b2", "c"]);
        kubelet.ask(&mut trials, &changed, false);
        assert_eq!(kubelet.runs, changed, "at once, while the first is still on trial");
        kubelet.ask(&mut trials, &Pods::new(), false);
        assert!(kubelet.runs.is_empty(), "at a shutdown");
        assert_eq!(kubelet.refusals, 0);
    }

    #[test]
    fn a_refused_pod_costs_the_others_nothing_but_time() {
        for bad in 0..9 {
            let (mut trials, mut kubelet) = (Trials::default(), Kubelet::default());
            let mut all = files(&["a"; 9]);
            all.insert(format!("{bad:03}"), "x".into());
            let asked = kubelet.settle(&mut trials, &all);
            assert!(asked < 30, "{asked}");
            assert_eq!(kubelet.runs.len(), 8, "all but {bad}");
            assert_eq!(trials.refused().len(), 1);
        }
    }

    #[test]
    fn many_refused_pods_are_all_found() {
        let (mut trials, mut kubelet) = (Trials::default(), Kubelet::default());
        let texts: Vec<&str> = (0..100).map(|index| if index % 7 == 0 { "x" } else { "a" }).collect();
        kubelet.settle(&mut trials, &files(&texts));
        assert_eq!((kubelet.runs.len(), trials.refused().len()), (85, 15));
    }

    #[test]
    fn a_refused_update_leaves_the_version_before_until_the_file_changes() {
        let (mut trials, mut kubelet) = (Trials::default(), Kubelet::default());
        kubelet.settle(&mut trials, &files(&["a", "b"]));
        kubelet.settle(&mut trials, &files(&["a", "x", "c"]));
        assert_eq!(kubelet.runs, files(&["a", "b", "c"]));
        kubelet.settle(&mut trials, &files(&["a", "d", "c"]));
        assert_eq!(kubelet.runs, files(&["a", "d", "c"]));
        assert!(trials.refused().is_empty());
    }

    #[test]
    fn what_an_earlier_run_knew_is_not_tried_again() {
        let (mut trials, mut kubelet) = (Trials::default(), Kubelet::default());
        let all = files(&["a", "x", "c"]);
        kubelet.settle(&mut trials, &all);
        let (before, refusals) = (kubelet.runs.clone(), kubelet.refusals);
        let mut again = Trials::knowing(trials.memory());
        kubelet.settle(&mut again, &all);
        assert_eq!((kubelet.runs, kubelet.refusals), (before, refusals));
    }

    #[test]
    fn a_new_run_does_not_end_the_last_good_version_of_a_pod_whose_update_was_refused() {
        let (mut trials, mut kubelet) = (Trials::default(), Kubelet::default());
        kubelet.settle(&mut trials, &files(&["a", "b"]));
        let all = files(&["a", "x"]);
        kubelet.settle(&mut trials, &all);
        assert_eq!(kubelet.runs, files(&["a", "b"]));
        let text = serde_json::to_string(&trials.memory()).unwrap();
        let mut again = Trials::knowing(serde_json::from_str(&text).unwrap());
        kubelet.ask(&mut again, &all, false);
        assert_eq!(kubelet.runs, files(&["a", "b"]), "from its first list on");
        kubelet.settle(&mut again, &all);
        assert_eq!(kubelet.runs, files(&["a", "b"]));
        kubelet.settle(&mut again, &files(&["a"]));
        assert_eq!(kubelet.runs, files(&["a"]), "one that is removed ends");
    }
}
