//! Facts as resources of the state service: ids, versions, times.
//!
//! A version counts the changes of a resource since this server has begun, unless its source counts itself. One that
//! has not changed is the same object as before, so that watchers find changes by comparing pointers.

use podium_wire::cosi::{Metadata, Resource, Spec};
use podium_wire::resources::Definition;
use prost_types::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

/// All resources of a type, by id.
pub(super) type Table = Arc<BTreeMap<String, Arc<Resource>>>;

/// Who made them.
const OWNER: &str = "podium";

/// A resource before it has a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) id: String,
    /// What people see.
    pub(super) yaml: String,
    /// What a client that knows the type decodes; mostly nothing.
    pub(super) proto: Vec<u8>,
    /// Its source's own count.
    pub(super) version: Option<u64>,
    pub(super) annotations: HashMap<String, String>,
}

/// Remembers what there was.
#[derive(Debug)]
pub(super) struct Ledger {
    definition: &'static Definition,
    last: Table,
}

impl Ledger {
    pub(super) fn new(definition: &'static Definition) -> Self {
        Self { definition, last: Table::default() }
    }

    /// The table with these in it and no others.
    pub(super) fn take(&mut self, drafts: Vec<Draft>) -> Table {
        let now = Timestamp::from(SystemTime::now());
        let rows = drafts.into_iter().map(|draft| {
            let resource = self.next(&draft, now);
            (draft.id, resource)
        });
        let table: Table = Arc::new(rows.collect());
        self.last = table.clone();
        table
    }

    fn next(&self, draft: &Draft, now: Timestamp) -> Arc<Resource> {
        let before = self.last.get(&draft.id);
        let metadata = before.and_then(|before| before.metadata.as_ref());
        let last: u64 = metadata.and_then(|metadata| metadata.version.parse().ok()).unwrap_or(0);
        let version = draft.version.unwrap_or(last);
        if let (Some(before), Some(metadata)) = (before, metadata)
            && version == last
            && metadata.annotations == draft.annotations
            && before
                .spec
                .as_ref()
                .is_some_and(|spec| spec.yaml_spec == draft.yaml && spec.proto_spec == draft.proto)
        {
            return before.clone();
        }
        Arc::new(Resource {
            metadata: Some(Metadata {
                namespace: self.definition.namespace.to_owned(),
                r#type: self.definition.kind.to_owned(),
                id: draft.id.clone(),
                version: draft.version.unwrap_or(last + 1).to_string(),
                owner: OWNER.to_owned(),
                phase: "running".to_owned(),
                created: metadata.map_or(Some(now), |metadata| metadata.created),
                updated: Some(now),
                annotations: draft.annotations.clone(),
                ..Metadata::default()
            }),
            spec: Some(Spec { proto_spec: draft.proto.clone(), yaml_spec: draft.yaml.clone() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_wire::resources::DEFINITIONS;

    fn draft(id: &str, yaml: &str, version: Option<u64>) -> Draft {
        Draft { id: id.to_owned(), yaml: yaml.to_owned(), version, ..Draft::default() }
    }

    fn version(table: &Table, id: &str) -> String {
        table[id].metadata.as_ref().unwrap().version.clone()
    }

    #[test]
    fn a_version_counts_changes_and_what_has_not_changed_is_the_same_object() {
        let mut ledger = Ledger::new(&DEFINITIONS[0]);
        let first = ledger.take(vec![draft("a", "x", None), draft("b", "x", Some(4))]);
        assert_eq!((version(&first, "a").as_str(), version(&first, "b").as_str()), ("1", "4"));
        let second = ledger.take(vec![draft("a", "y", None), draft("b", "x", Some(4))]);
        assert_eq!(version(&second, "a"), "2");
        assert!(Arc::ptr_eq(&first["b"], &second["b"]) && !Arc::ptr_eq(&first["a"], &second["a"]));
        assert_eq!(
            first["a"].metadata.as_ref().unwrap().created,
            second["a"].metadata.as_ref().unwrap().created
        );
        let third = ledger.take(vec![draft("b", "z", Some(5))]);
        assert_eq!((third.len(), version(&third, "b").as_str()), (1, "5"));
    }
}
