//! Live configuration: a config that changes while the node runs, without PID 1 reading it.
//!
//! A *change* is done by a child, `init apply`: it reads a config under limits, writes manifests and settings, stores
//! the text, and leaves a [`Report`]. PID 1 only decides what is done when ([`Policy`]: one change at a time, a time
//! of proof behind it, and the way back), and takes the report's services. [`changes`] says what a new config needs to
//! take effect, [`difference`] what is new in it.

mod before;
mod difference;
mod effects;
pub mod guard;
mod policy;
mod report;
mod waiting;

pub use difference::{MAX_LINES, difference};
pub use effects::{Change, Needs, changes, changes_from, in_container, in_force, restarts, waits_for_config};
pub use policy::{Action, Event, PROOF_LIMIT, Phase, Policy, SOAK, TRY_LIMIT};
pub use report::{Applied, Ask, Mode, REPORT_MAX, Report, Standing};
