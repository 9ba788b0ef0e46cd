//! What podiumctl shows and reads, without effects: answers as tables, YAML and JSON, diffs, problems with carets,
//! talosconfig files, patches, certificates.
//!
//! The binary beside it parses words, connects to nodes and prints. Nothing here opens a file, a socket or a terminal,
//! or reads a clock; the making of keys alone asks the system for random bytes.

pub mod diff;
pub mod endpoint;
pub mod jsonpath;
pub mod listing;
pub mod output;
pub mod patch;
pub mod pki;
pub mod problems;
pub mod resource;
pub mod secrets;
pub mod style;
pub mod table;
pub mod talosconfig;
pub mod times;
