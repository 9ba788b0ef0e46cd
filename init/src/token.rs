//! The secret of this boot that the kubelet shows to `apid podlist`, so that nobody else can read the pods.
//!
//! Made once a boot, before the kubelet's config is rendered; who renders that again takes the same one. It is on a
//! tmpfs, for root alone, and decides nothing.

use crate::sys::file;
use anyhow::{Context, Result};
use podium_init::paths;
use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt::Write;
use std::path::Path;

/// As many bits as are in a key that nobody guesses.
const BYTES: usize = 32;

/// The token of this boot, made when there is none yet.
///
/// # Errors
/// It cannot be stored: then nobody could check it.
pub(crate) fn of_this_boot() -> Result<String> {
    of(Path::new(paths::POD_LIST_TOKEN))
}

/// The token of this boot. None is made: whoever checks it knows the one that was there.
///
/// # Errors
/// It is not there, or damaged.
pub(crate) fn there() -> Result<String> {
    let token = file::read_line(Path::new(paths::POD_LIST_TOKEN))?;
    anyhow::ensure!(is_token(&token), "{} is damaged", paths::POD_LIST_TOKEN);
    Ok(token)
}

fn is_token(text: &str) -> bool {
    text.len() == 2 * BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn of(path: &Path) -> Result<String> {
    if let Some(token) = file::read_line(path).ok().filter(|text| is_token(text)) {
        return Ok(token);
    }
    let mut bytes = [0; BYTES];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty()).context("random bytes")?;
    anyhow::ensure!(filled == BYTES, "random bytes: {filled} of {BYTES}");
    let mut token = String::with_capacity(2 * BYTES);
    for byte in bytes {
        write!(token, "{byte:02x}")?;
    }
    file::replace(path, token.as_bytes(), 0o600)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = of(&path).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(of(&path).unwrap(), token);
        std::fs::write(&path, "short").unwrap();
        let next = of(&path).unwrap();
        assert!(next.len() == 64 && next != token, "one that is damaged is made anew");
    }
}
