//! The machine config: schema, parse, validate; every problem with its YAML path and line.

mod schema;

pub use schema::*;
