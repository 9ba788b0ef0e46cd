//! What is known of a request by itself: who answers it, whether its answer ends, the line that asks for it.

use super::{ACTIONS, By, Request, VERSION, word};
use crate::shutdown::Shutdown;
use serde_json::json;

impl Request {
    /// Who answers it.
    pub fn by(&self) -> By {
        match self {
            Self::Version
            | Self::Services
            | Self::Service { .. }
            | Self::ServiceStatus { .. }
            | Self::Events { .. }
            | Self::ConfigStatus
            | Self::Shutdown(_) => By::Init,
            Self::Logs { .. }
            | Self::Pods
            | Self::PodStatus { .. }
            | Self::ConfigGet
            | Self::ConfigHistory
            | Self::Dmesg { .. } => By::Answer,
            Self::ConfigApply { .. } | Self::ConfigRollback { .. } => By::Change,
        }
    }

    /// Its answer goes on until the client closes.
    pub fn is_endless(&self) -> bool {
        match self {
            Self::Logs { follow, .. } | Self::Events { follow, .. } | Self::Dmesg { follow } => *follow,
            Self::PodStatus { watch } => *watch,
            Self::Version
            | Self::Services
            | Self::Service { .. }
            | Self::ServiceStatus { .. }
            | Self::Pods
            | Self::ConfigGet
            | Self::ConfigStatus
            | Self::ConfigApply { .. }
            | Self::ConfigHistory
            | Self::ConfigRollback { .. }
            | Self::Shutdown(_) => false,
        }
    }

    /// The line that asks for it, with its line feed.
    pub fn to_line(&self) -> String {
        let mut line = match self {
            Self::Version => json!({"request": "version"}),
            Self::Services => json!({"request": "services"}),
            Self::Service { name, action } => {
                json!({"request": "service", "name": name, "action": word(*action, &ACTIONS)})
            }
            Self::Logs { service, tail, follow, boots_back } => json!({
                "request": "logs", "service": service, "tail": tail, "follow": follow,
                "boots_back": boots_back,
            }),
            Self::ServiceStatus { name } => json!({"request": "service status", "name": name}),
            Self::Events { since, boot, follow } => {
                json!({"request": "events", "since": since, "boot": boot, "follow": follow})
            }
            Self::Pods => json!({"request": "pods"}),
            Self::PodStatus { watch } => json!({"request": "pod status", "watch": watch}),
            Self::ConfigGet => json!({"request": "config get"}),
            Self::ConfigStatus => json!({"request": "config status"}),
            Self::ConfigApply { mode, dry_run, timeout_s } => json!({
                "request": "config apply", "mode": mode.word(), "dry_run": dry_run, "timeout_s": timeout_s,
            }),
            Self::ConfigHistory => json!({"request": "config history"}),
            Self::ConfigRollback { generation } => {
                json!({"request": "config rollback", "generation": generation})
            }
            Self::Dmesg { follow } => json!({"request": "dmesg", "follow": follow}),
            // There is no request that leaves a machine halted: nobody could start it again from afar.
            Self::Shutdown(Shutdown::Reboot) => json!({"request": "reboot"}),
            Self::Shutdown(Shutdown::Reset(reset)) => {
                json!({"request": "reset", "partitions": reset.partitions(), "reboot": reset.reboot})
            }
            Self::Shutdown(Shutdown::PowerOff | Shutdown::Halt) => json!({"request": "power off"}),
        };
        if let Some(object) = line.as_object_mut() {
            // What is not given is not said.
            object.retain(|_, value| !value.is_null());
            object.insert("version".to_owned(), VERSION.into());
        }
        format!("{line}\n")
    }
}
