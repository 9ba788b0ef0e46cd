//! The machine config: schema, parse, validate; every problem with its YAML path and line.
//!
//! [`parse`] is the whole way from bytes to an [`Outcome`] and runs in the parsing child (`init parse`); PID 1 only
//! ever holds what comes out of it.

mod cursor;
mod decode;
mod nearest;
mod node;
mod outcome;
mod parse;
mod reference;
mod report;
mod schema;
mod seconds;
mod talos;
mod text;
mod tree;
mod validate;

pub(crate) use nearest::did_you_mean;
pub use nearest::nearest;
pub use outcome::{MAX_PROBLEMS, Outcome, Problem, Severity};
pub use parse::parse;
pub(crate) use parse::pod;
pub use reference::{KEYS, Key, reference};
pub use schema::*;
pub use seconds::Seconds;
pub use text::MAX_TEXT;
