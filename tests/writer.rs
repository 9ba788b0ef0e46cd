//! PID 1's manifest writer against the model of the kubelet: whatever configs follow each other, and whatever the kubelet
//! does meanwhile, the wanted pods run and no other is touched.

use podium_init::manifests::{Found, Manifest, diff, plan};
use podium_tests::kubelet_model::{Compares, Happened, Id, Kubelet, Operation, Place};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn rename(file: &str, bytes: Vec<u8>) -> Operation {
    Operation::Rename { file: file.into(), bytes }
}

/// Somebody else's file.
fn foreign() -> Vec<u8> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "foreign"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pod.to_string().into_bytes()
}

/// A config's pods: name to image and argument.
type Config = BTreeMap<char, (u8, u8)>;

fn planned(config: &Config) -> Vec<Manifest> {
    let pods: Vec<Value> = config
        .iter()
        .map(|(name, (image, argument))| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name.to_string()}, "spec": {"containers": [
                {"name": "c", "image": format!("i:{image}"), "args": [argument.to_string()]}]}})
        })
        .collect();
    let (manifests, problems) = plan(&pods, &|_| None);
    assert!(problems.is_empty() && manifests.len() == config.len());
    manifests
}

/// What PID 1 does to the directory for a config, in its order.
fn operations(files: BTreeMap<String, Vec<u8>>, want: &[Manifest]) -> Vec<Operation> {
    let have: Vec<Found> =
        files.into_iter().map(|(name, bytes)| Found { name, bytes: Some(bytes) }).collect();
    let changes = diff(&have, want, &BTreeSet::new());
    let put = |manifest: &&Manifest| rename(&manifest.file, manifest.bytes.clone().into_bytes());
    let written = changes.changes.iter().chain(&changes.additions).map(put);
    changes.deletions.iter().cloned().map(Operation::Delete).chain(written).collect()
}

fn id(name: char) -> Id {
    ("default".to_owned(), name.to_string())
}

fn config() -> impl Strategy<Value = Config> {
    prop::collection::btree_map(prop::sample::select(vec!['a', 'b', 'c', 'd', 'e']), (0..3_u8, 0..3_u8), 0..6)
}

/// What the kubelet does by itself meanwhile.
fn meanwhile() -> impl Strategy<Value = Vec<Operation>> {
    prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(vec![Operation::Relist]),
        1 => Just(vec![Operation::StopKubelet, Operation::StartKubelet]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_configs_follow_each_other_the_wanted_pods_run_and_no_other_is_touched(
        configs in prop::collection::vec((config(), meanwhile()), 1..6),
        compares in prop::sample::select(vec![Compares::Everything, Compares::Image]),
    ) {
        let mut kubelet = Kubelet::new("node-1", compares);
        // Somebody else's pod, which must not notice.
        kubelet.apply(&rename("zz.yaml", foreign())).unwrap();
        kubelet.apply(&Operation::StartKubelet).unwrap();
        kubelet.take_happened();
        let mut before = Config::new();
        let mut uids = BTreeMap::new();
        for (config, meanwhile) in configs {
            let want = planned(&config);
            let kept: Vec<Id> = config.keys().filter(|name| before.contains_key(name)).map(|name| id(*name)).collect();
            for operation in operations(kubelet.files(), &want) {
                for step in std::iter::once(operation).chain(meanwhile.iter().cloned()) {
                    let stopped = step == Operation::StopKubelet;
                    kubelet.apply(&step).unwrap();
                    let pods = kubelet.pods();
                    prop_assert!(stopped || kept.iter().all(|id| pods.contains_key(id)), "{step:?}: a kept pod vanished");
                }
            }
            let happened = kubelet.take_happened();
            let of = |uid: &str| {
                let own = |happened: &&Happened| match happened {
                    Happened::Created(of) | Happened::Killed(of) | Happened::Ignored(of) | Happened::Restarted(of, _) => of == uid,
                };
                happened.iter().filter(own).cloned().collect::<Vec<_>>()
            };
            let pods = kubelet.pods();
            let ids: BTreeSet<Id> = config.keys().map(|name| id(*name)).chain([("default".into(), "foreign".into())]).collect();
            prop_assert_eq!(pods.keys().cloned().collect::<BTreeSet<_>>(), ids, "the wanted pods run, and no other");
            prop_assert_eq!(kubelet.running().len(), pods.len(), "nothing runs that nobody wants");
            prop_assert!(of(&pods[&("default".to_owned(), "foreign".to_owned())].uid).is_empty());
            for (manifest, (name, wanted)) in want.iter().zip(&config) {
                let pod = &pods[&id(*name)];
                prop_assert_eq!(&pod.uid, &manifest.uid);
                let container = &pod.containers["c"];
                prop_assert_eq!(&container["image"], &json!(format!("i:{}", wanted.0)), "what runs is what is wanted");
                prop_assert_eq!(&container["args"], &json!([wanted.1.to_string()]));
                let expected = match before.get(name) {
                    Some(old) if old == wanted => Vec::new(),
                    Some(old) if old.1 == wanted.1 => vec![Happened::Restarted(pod.uid.clone(), "c".into())],
                    _ => vec![Happened::Created(pod.uid.clone())],
                };
                prop_assert_eq!(of(&pod.uid), expected, "{}", name);
                if let Some(old) = uids.insert(*name, pod.uid.clone()).filter(|old| *old != pod.uid && before.contains_key(name)) {
                    prop_assert_eq!(of(&old), vec![Happened::Killed(old.clone())], "a new pod for an old one");
                }
            }
            before = config;
        }
    }
}
