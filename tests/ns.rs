//! Namespace tests: the real binary as PID 1 under unshare, with fakes for containerd and the kubelet.
//!
//! What needs root (cgroups) runs as root only, and the test says so; everything else runs for anybody who may make
//! user namespaces. No test sleeps: each waits for a condition, with a limit.

#[path = "ns/api.rs"]
mod api;
#[path = "ns/boot.rs"]
mod boot;
#[path = "ns/control.rs"]
mod control;
#[path = "ns/fields.rs"]
mod fields;
#[path = "ns/health.rs"]
mod health;
#[path = "ns/history.rs"]
mod history;
#[path = "ns/holds.rs"]
mod holds;
#[path = "ns/live.rs"]
mod live;
#[path = "ns/logs.rs"]
mod logs;
#[path = "ns/metadata.rs"]
mod metadata;
#[path = "ns/mistakes.rs"]
mod mistakes;
#[path = "ns/panic.rs"]
mod panic;
#[path = "ns/shutdown.rs"]
mod shutdown;
#[path = "ns/watchdog.rs"]
mod watchdog;
