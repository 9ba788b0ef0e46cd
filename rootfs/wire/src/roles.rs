//! Who may call what: the one list that the server enforces and that the tests walk.
//!
//! A role is an Organization of the client certificate's subject. A higher role may all that a lower one may.

/// What a client may do, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look at the node.
    Reader,
    /// And start, stop and restart it and its services.
    Operator,
    /// And change its config, read any file, wipe it.
    Admin,
}

impl Role {
    /// Lowest first.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Admin];

    /// The Organization that grants it.
    pub fn organization(self) -> &'static str {
        match self {
            Self::Reader => "os:reader",
            Self::Operator => "os:operator",
            Self::Admin => "os:admin",
        }
    }

    /// The highest role that these Organizations grant.
    pub fn of<'a>(organizations: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let granted = organizations
            .into_iter()
            .filter_map(|name| Self::ALL.into_iter().find(|role| role.organization() == name));
        granted.max()
    }
}

/// Every method that is answered, by its path, with the lowest role that may call it, and whether a node without a
/// config (maintenance mode) answers it to anybody.
pub const METHODS: [(&str, Role, bool); 27] = [
    ("/cosi.resource.State/Get", Role::Reader, false),
    ("/cosi.resource.State/List", Role::Reader, false),
    ("/cosi.resource.State/Watch", Role::Reader, false),
    ("/machine.MachineService/ApplyConfiguration", Role::Admin, true),
    ("/machine.MachineService/Containers", Role::Reader, false),
    ("/machine.MachineService/DiskUsage", Role::Reader, false),
    ("/machine.MachineService/Dmesg", Role::Reader, false),
    ("/machine.MachineService/Events", Role::Reader, false),
    ("/machine.MachineService/Hostname", Role::Reader, false),
    ("/machine.MachineService/List", Role::Reader, false),
    ("/machine.MachineService/LoadAvg", Role::Reader, false),
    ("/machine.MachineService/Logs", Role::Reader, false),
    ("/machine.MachineService/LogsContainers", Role::Reader, false),
    ("/machine.MachineService/Memory", Role::Reader, false),
    ("/machine.MachineService/Mounts", Role::Reader, false),
    ("/machine.MachineService/Processes", Role::Reader, false),
    ("/machine.MachineService/Read", Role::Admin, false),
    ("/machine.MachineService/Reboot", Role::Operator, false),
    ("/machine.MachineService/Reset", Role::Admin, false),
    ("/machine.MachineService/ServiceList", Role::Reader, false),
    ("/machine.MachineService/ServiceRestart", Role::Operator, false),
    ("/machine.MachineService/ServiceStart", Role::Operator, false),
    ("/machine.MachineService/ServiceStop", Role::Operator, false),
    ("/machine.MachineService/Shutdown", Role::Operator, false),
    ("/machine.MachineService/Stats", Role::Reader, false),
    ("/machine.MachineService/SystemStat", Role::Reader, false),
    ("/machine.MachineService/Version", Role::Reader, true),
];

/// The lowest role that may call this method; `None`: it is not answered here.
pub fn needed(path: &str) -> Option<Role> {
    METHODS.iter().find(|(method, ..)| *method == path).map(|(_, role, _)| *role)
}

/// Whether a node without a config answers it to anybody.
pub fn in_maintenance(path: &str) -> bool {
    METHODS.iter().any(|(method, _, answered)| *method == path && *answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_several_organizations_counts() {
        assert_eq!(Role::of(["os:reader", "staff", "os:operator"]), Some(Role::Operator));
        assert_eq!(Role::of(["os:admin"]), Some(Role::Admin));
        for none in [&[][..], &["admin"], &["os:Admin"], &["os:admin "]] {
            assert_eq!(Role::of(none.iter().copied()), None, "{none:?}");
        }
    }

    /// Written down once more by hand: a slip in the one list is no slip in the other.
    #[test]
    fn each_role_has_the_methods_that_talos_gives_it() {
        let of = |role: Role| -> Vec<&str> {
            let of_role = METHODS.iter().filter(|(_, its, _)| *its == role);
            of_role.map(|(path, ..)| path.rsplit('/').next().unwrap()).collect()
        };
        let reads = "Get List Watch Containers DiskUsage Dmesg Events Hostname List LoadAvg Logs LogsContainers Memory \
                     Mounts Processes ServiceList Stats SystemStat Version";
        assert_eq!(of(Role::Reader).join(" "), reads);
        assert_eq!(
            of(Role::Operator),
            ["Reboot", "ServiceRestart", "ServiceStart", "ServiceStop", "Shutdown"]
        );
        assert_eq!(of(Role::Admin), ["ApplyConfiguration", "Read", "Reset"]);
    }

    #[test]
    fn a_method_that_is_not_listed_is_nobodys() {
        assert_eq!(needed("/machine.MachineService/Upgrade"), None);
        assert_eq!(needed("/machine.MachineService/Read"), Some(Role::Admin));
        assert!(METHODS.is_sorted_by_key(|(path, ..)| *path), "sorted, so that a double would show");
    }

    #[test]
    fn maintenance_mode_tells_its_version_and_takes_a_config_and_no_more() {
        let answered: Vec<&str> =
            METHODS.iter().filter(|(_, _, answered)| *answered).map(|(path, ..)| *path).collect();
        assert_eq!(
            answered,
            ["/machine.MachineService/ApplyConfiguration", "/machine.MachineService/Version"]
        );
    }
}
