//! The resources of the state service: types, namespaces, aliases, columns, and who may see them.
//!
//! Names are Talos's where it has the same thing. A client decodes only the definitions (`proto_spec`); of all others it
//! prints `yaml_spec`, whose columns are found by JSONPath.

use crate::cosi::{ResourceDefinitionSpec, resource_definition_spec};

/// What a client may ask for by type or alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Its whole name.
    pub kind: &'static str,
    /// What it is called in a table.
    pub display: &'static str,
    /// Where it lives.
    pub namespace: &'static str,
    /// Short names, all lower case.
    pub aliases: &'static [&'static str],
    /// Columns: header and JSONPath in the YAML spec.
    pub columns: &'static [(&'static str, &'static str)],
    /// Only for an admin.
    pub sensitive: bool,
}

/// Static pods as the node wants them.
pub const STATIC_PODS: &str = "StaticPods.kubernetes.talos.dev";
/// Static pods as the kubelet sees them.
pub const STATIC_POD_STATUSES: &str = "StaticPodStatuses.kubernetes.talos.dev";
/// The node's services.
pub const SERVICES: &str = "Services.v1alpha1.talos.dev";
/// The machine config.
pub const MACHINE_CONFIGS: &str = "MachineConfigs.config.talos.dev";
/// The node as a whole.
pub const NODE_STATUSES: &str = "NodeStatuses.podium.dev";
/// The definitions themselves.
pub const RESOURCE_DEFINITIONS: &str = "ResourceDefinitions.meta.cosi.dev";

/// All of them.
pub const DEFINITIONS: [Definition; 6] = [
    Definition {
        kind: STATIC_PODS,
        display: "StaticPod",
        namespace: "k8s",
        aliases: &["staticpod", "staticpods", "sp"],
        columns: &[],
        sensitive: false,
    },
    Definition {
        kind: STATIC_POD_STATUSES,
        display: "StaticPodStatus",
        namespace: "k8s",
        aliases: &["staticpodstatus", "staticpodstatuses", "podstatus", "podstatuses", "sps"],
        columns: &[("Ready", "{.conditions[?(@.type==\"Ready\")].status}")],
        sensitive: false,
    },
    Definition {
        kind: SERVICES,
        display: "Service",
        namespace: "runtime",
        aliases: &["service", "services", "svc"],
        columns: &[("Running", "{.running}"), ("Healthy", "{.healthy}"), ("Health Unknown", "{.unknown}")],
        sensitive: false,
    },
    Definition {
        kind: MACHINE_CONFIGS,
        display: "MachineConfig",
        namespace: "config",
        aliases: &["machineconfig", "machineconfigs", "mc"],
        columns: &[],
        sensitive: true,
    },
    Definition {
        kind: NODE_STATUSES,
        display: "NodeStatus",
        namespace: "runtime",
        aliases: &["nodestatus", "nodestatuses", "ns"],
        columns: &[("Stage", "{.stage}"), ("Ready", "{.ready}")],
        sensitive: false,
    },
    Definition {
        kind: RESOURCE_DEFINITIONS,
        display: "ResourceDefinition",
        namespace: "meta",
        aliases: &["resourcedefinition", "resourcedefinitions", "rd", "rds"],
        columns: &[("Aliases", "{.aliases[:]}")],
        sensitive: false,
    },
];

impl Definition {
    /// Its id among the definitions.
    pub fn id(&self) -> String {
        self.kind.to_lowercase()
    }

    /// By its whole name, its name without the domain, or an alias; case does not matter.
    pub fn find(name: &str) -> Option<&'static Self> {
        let name = name.to_lowercase();
        DEFINITIONS.iter().find(|definition| {
            let id = definition.id();
            id == name
                || id.split('.').next() == Some(name.as_str())
                || definition.aliases.contains(&name.as_str())
        })
    }

    /// As a client decodes it.
    pub fn to_spec(&self) -> ResourceDefinitionSpec {
        let aliases: Vec<String> = self.aliases.iter().map(|&alias| alias.to_owned()).collect();
        let id = self.id();
        // Clients look a name up in this list alone: `staticpods.kubernetes`, too.
        let parts: Vec<&str> = id.split('.').collect();
        let prefixes = (1..=parts.len()).map(|count| parts[..count].join("."));
        let mut all_aliases: Vec<String> = prefixes.chain(aliases.iter().cloned()).collect();
        all_aliases.sort();
        all_aliases.dedup();
        let column = |(name, json_path): &(&str, &str)| resource_definition_spec::PrintColumn {
            name: (*name).to_owned(),
            json_path: (*json_path).to_owned(),
        };
        let sensitivity = if self.sensitive {
            resource_definition_spec::Sensitivity::Sensitive
        } else {
            resource_definition_spec::Sensitivity::NonSensitive
        };
        ResourceDefinitionSpec {
            resource_type: self.kind.to_owned(),
            display_type: self.display.to_owned(),
            default_namespace: self.namespace.to_owned(),
            aliases,
            all_aliases,
            print_columns: self.columns.iter().map(column).collect(),
            sensitivity: sensitivity.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_found_by_each_of_its_names_and_no_name_is_of_two() {
        for definition in &DEFINITIONS {
            let spec = definition.to_spec();
            for name in &spec.all_aliases {
                let with_it = DEFINITIONS.iter().filter(|other| other.to_spec().all_aliases.contains(name));
                assert_eq!(with_it.count(), 1, "{name}");
            }
            for name in [definition.kind, definition.aliases[0]] {
                assert_eq!(Definition::find(&name.to_uppercase()), Some(definition));
            }
        }
        assert_eq!(Definition::find("pods"), None);
    }
}
