//! Sessions of an operator: the real binary against fake nodes over real TLS, one file a group of commands. What it
//! prints is held against tests/golden; `UPDATE_GOLDEN=1 cargo test -p podium-podiumctl --test session` writes it anew.

mod change;
mod dashboard;
mod files;
mod look;
mod power;
mod refusals;
mod support;
