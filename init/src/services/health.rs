//! How it is known that a service which is up still does its work, as data: `apid probe` asks, PID 1 decides.

use crate::config::MachineConfig;
use crate::paths;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The prober's id. It alone may tell of the health of others.
pub const PROBE: &str = "probe";

/// A question that is put again and again to a service that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The question.
    pub probe: Probe,
    /// From the beginning of one question to that of the next.
    pub interval: Duration,
    /// No answer within this is a failure. Not longer than the interval: there is one question at a time.
    pub timeout: Duration,
    /// So many failures in a row restart the service.
    pub failures: u32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// GET of this URL, `http://ADDRESS:PORT/PATH`; healthy is a status of 200 to 299.
    Http(String),
    /// The CRI's `Version` on this unix socket; healthy is any answer.
    Cri(String),
    /// A program and its arguments; healthy is exit code 0.
    Exec(Vec<String>),
}

/// The kubelet's own port for it, on loopback unless the config says otherwise.
const KUBELET_PORT: u16 = 10248;
/// One question in ten seconds costs some milliseconds of processor time a minute.
const KUBELET_INTERVAL: Duration = Duration::from_secs(10);
/// It says no more than that its server runs, for which any machine that does its work needs less.
const KUBELET_TIMEOUT: Duration = Duration::from_secs(10);
/// containerd answers while it pulls and unpacks; a slow disk makes it slow.
const CONTAINERD_INTERVAL: Duration = Duration::from_secs(20);
/// As long as the interval: a restart mends what hangs and not what is slow.
const CONTAINERD_TIMEOUT: Duration = Duration::from_secs(20);
/// One may be bad luck and two a machine under load.
const FAILURES: u32 = 3;

/// The kubelet's `healthz`. `None`: the config has switched it off.
pub(super) fn kubelet(config: &MachineConfig) -> Option<Health> {
    let kubelet = &config.machine.kubelet;
    // A flag goes before the config file.
    let given = |flag: &str, key: &str| {
        let in_file = || match kubelet.extra_config.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        kubelet.extra_args.get(flag).cloned().or_else(in_file)
    };
    let port =
        given("healthz-port", "healthzPort").and_then(|port| port.parse().ok()).unwrap_or(KUBELET_PORT);
    let address: Option<IpAddr> =
        given("healthz-bind-address", "healthzBindAddress").and_then(|address| address.parse().ok());
    let address = address.filter(|address| !address.is_unspecified());
    let at = SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port);
    (port != 0).then(|| Health {
        probe: Probe::Http(format!("http://{at}/healthz")),
        interval: KUBELET_INTERVAL,
        timeout: KUBELET_TIMEOUT,
        failures: FAILURES,
    })
}

pub(super) fn containerd() -> Health {
    Health {
        probe: Probe::Cri(paths::CONTAINERD_SOCKET.to_owned()),
        interval: CONTAINERD_INTERVAL,
        timeout: CONTAINERD_TIMEOUT,
        failures: FAILURES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kubelet_is_asked_where_it_listens() {
        let at = |file: Value, flags: &[(&str, &str)]| {
            let mut config = MachineConfig::default();
            config.machine.kubelet.extra_config = file.as_object().unwrap().clone();
            let flags = flags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            config.machine.kubelet.extra_args = flags.collect();
            kubelet(&config).map(|health| match health.probe {
                Probe::Http(url) => url,
                other => panic!("{other:?}"),
            })
        };
        let url = |address: &str| Some(format!("http://{address}/healthz"));
        assert_eq!(at(json!({}), &[]), url("127.0.0.1:10248"));
        assert_eq!(at(json!({"healthzPort": 1}), &[]), url("127.0.0.1:1"));
        assert_eq!(at(json!({"healthzBindAddress": "::1"}), &[]), url("[::1]:10248"));
        assert_eq!(at(json!({"healthzBindAddress": "0.0.0.0"}), &[]), url("127.0.0.1:10248"));
        assert_eq!(at(json!({"healthzPort": 1}), &[("healthz-port", "2")]), url("127.0.0.1:2"));
        assert_eq!(at(json!({"healthzPort": 0}), &[]), None);
        assert_eq!(at(json!({"healthzPort": "x"}), &[]), url("127.0.0.1:10248"));
    }

    #[test]
    fn there_is_one_question_at_a_time() {
        for health in [kubelet(&MachineConfig::default()).unwrap(), containerd()] {
            assert!(health.timeout <= health.interval && health.failures > 0, "{health:?}");
        }
    }
}
