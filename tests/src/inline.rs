//! A machine config as words of the kernel command line, packed as its users would pack it.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// The x86 kernel takes 2,047 bytes of command line and cuts the rest off without a word; at that length exactly
/// nobody could tell whether something was cut off.
pub const LONGEST_COMMAND_LINE: usize = 2046;

/// `podium.config.inline=` with the bytes as they are, in base64.
#[must_use]
pub fn plain(config: &[u8]) -> String {
    format!("podium.config.inline={}", STANDARD.encode(config))
}

/// `podium.config.inline=` with the bytes packed by gzip.
///
/// # Errors
/// Never in practice: it writes to memory.
pub fn gzip(config: &[u8]) -> Result<String> {
    Ok(plain(&gzipped(config)?))
}

/// `bytes` packed by gzip.
///
/// # Errors
/// Never in practice: it writes to memory.
pub fn gzipped(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_packed_comes_back() {
        let word = gzip(b"version: v1alpha1\n").unwrap();
        let bytes = STANDARD.decode(word.strip_prefix("podium.config.inline=").unwrap()).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "version: v1alpha1\n");
    }
}
