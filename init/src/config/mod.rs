//! The machine config: schema, parse, validate; every problem with its YAML path and line.

mod nearest;
mod outcome;
mod schema;

pub(crate) use nearest::did_you_mean;
pub use nearest::nearest;
pub use outcome::{MAX_PROBLEMS, Outcome, Problem, Severity};
pub use schema::*;
