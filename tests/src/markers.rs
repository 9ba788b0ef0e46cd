//! What a boot's console lines tell: how far it is, and how long each part took by the kernel's own stamps.

use crate::console::Line;
use serde::Serialize;
use std::time::Duration;

/// The line that means: every static pod of the config is running.
pub const READY: &str = "podium: ready: ";
/// The lines that mean: the machine is off and has lost nothing.
pub const UNMOUNTED: &str = "podium: halt: all file systems unmounted";

/// Milliseconds of guest time from power on, where the marker has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Timings {
    /// Kernel's first instruction to PID 1's first line.
    pub kernel_to_init_ms: Option<f64>,
    /// PID 1's first line to its second life, in the root file system.
    pub initramfs_ms: Option<f64>,
    /// PID 1's first line to containerd's first instruction.
    pub init_to_containerd_exec_ms: Option<f64>,
    /// PID 1's first line in the root file system to containerd's first instruction: without the drivers and the
    /// disk that the initramfs waits for.
    pub node_to_containerd_exec_ms: Option<f64>,
    /// containerd's first instruction to its READY.
    pub containerd_start_ms: Option<f64>,
    /// containerd's READY to the kubelet's first instruction.
    pub containerd_ready_to_kubelet_exec_ms: Option<f64>,
    /// The kubelet's first instruction to the first running pod.
    pub kubelet_to_first_container_ms: Option<f64>,
    /// Kernel's first instruction to all pods running.
    pub total_ms: Option<f64>,
    /// PID 1's proportional set size.
    pub init_pss_kib: Option<u64>,
    /// The part of it that is anonymous: nobody shares it.
    pub init_pss_anon_kib: Option<u64>,
}

impl Timings {
    /// Reads the markers of one boot's lines.
    #[must_use]
    pub fn of(lines: &[Line]) -> Self {
        let at = |found: &dyn Fn(&str) -> bool| {
            lines.iter().find(|line| found(&line.text)).and_then(|line| line.kernel)
        };
        let starts = |start: &'static str| at(&move |text| text.starts_with(start));
        let init = at(&|text| text.starts_with("podium: init ") && text.ends_with(" stage"));
        let node = at(&|text| text.starts_with("podium: init ") && text.ends_with(", node stage"));
        let containerd = starts("podium: containerd: exec");
        let containerd_up = starts("podium: containerd: up");
        let kubelet = starts("podium: kubelet: exec");
        let pod = at(&|text| text.starts_with("podium: pod ") && text.ends_with(": running"));
        let ready = starts(READY);
        let memory = lines.iter().find_map(|line| memory(&line.text));
        Self {
            kernel_to_init_ms: init.map(milliseconds),
            initramfs_ms: between(init, node),
            init_to_containerd_exec_ms: between(init, containerd),
            node_to_containerd_exec_ms: between(node, containerd),
            containerd_start_ms: between(containerd, containerd_up),
            containerd_ready_to_kubelet_exec_ms: between(containerd_up, kubelet),
            kubelet_to_first_container_ms: between(kubelet, pod),
            total_ms: ready.map(milliseconds),
            init_pss_kib: memory.map(|(pss, _)| pss),
            init_pss_anon_kib: memory.map(|(_, private)| private),
        }
    }
}

fn between(from: Option<Duration>, to: Option<Duration>) -> Option<f64> {
    let (from, to) = (milliseconds(from?), milliseconds(to?));
    // To the microsecond, which is what the kernel stamps: 0.1 + 0.2 is nobody's measurement.
    Some(((to - from) * 1000.0).round() / 1000.0)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Reads `podium: memory: init PSS N KiB, private N KiB`.
fn memory(text: &str) -> Option<(u64, u64)> {
    let (pss, private) = text.strip_prefix("podium: memory: init PSS ")?.split_once(" KiB, private ")?;
    Some((pss.parse().ok()?, private.strip_suffix(" KiB")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[(u64, &str)]) -> Vec<Line> {
        let line = |(number, (micros, text)): (usize, &(u64, &str))| Line {
            number,
            wall: Duration::ZERO,
            kernel: Some(Duration::from_micros(*micros)),
            text: (*text).to_owned(),
        };
        text.iter().enumerate().map(line).collect()
    }

    #[test]
    fn each_part_is_the_span_between_its_two_markers() {
        let timings = Timings::of(&lines(&[
            (1_000_000, "podium: init 0.1.0, initramfs stage"),
            (1_500_000, "podium: init 0.1.0, node stage"),
            (1_600_000, "podium: containerd: exec"),
            (3_000_000, "podium: containerd: up"),
            (3_020_500, "podium: kubelet: exec"),
            (8_000_000, "podium: pod default/hello: waiting for an image"),
            (9_020_500, "podium: pod default/hello: running"),
            (9_100_000, "podium: ready: all 1 pods running"),
            (9_200_000, "podium: memory: init PSS 1100 KiB, private 120 KiB"),
        ]));
        let expected = Timings {
            kernel_to_init_ms: Some(1000.0),
            initramfs_ms: Some(500.0),
            init_to_containerd_exec_ms: Some(600.0),
            node_to_containerd_exec_ms: Some(100.0),
            containerd_start_ms: Some(1400.0),
            containerd_ready_to_kubelet_exec_ms: Some(20.5),
            kubelet_to_first_container_ms: Some(6000.0),
            total_ms: Some(9100.0),
            init_pss_kib: Some(1100),
            init_pss_anon_kib: Some(120),
        };
        assert_eq!(timings, expected);
    }

    #[test]
    fn a_boot_that_stopped_half_way_has_what_it_reached() {
        let timings = Timings::of(&lines(&[(1_000_000, "podium: init 0.1.0, initramfs stage")]));
        assert_eq!(timings, Timings { kernel_to_init_ms: Some(1000.0), ..Timings::default() });
    }
}
