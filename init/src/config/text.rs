//! Raw bytes -> text fit for the YAML parser, or the one problem that stops it; and the source text by its places.
//!
//! What a YAML parser would report in its own words, or by a byte offset, or not at all (NUL ends a text for it),
//! is caught here with a line. Nothing is interpreted.

use super::Problem;
use super::node::Place;

/// The largest config text in bytes: a hundred times what a large node needs, small enough to hold many times over.
pub const MAX_TEXT: usize = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Takes bytes for text. A byte order mark is dropped; the error is the first thing that makes it no text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Box<Problem>> {
    if bytes.len() > MAX_TEXT {
        let message = format!("the config is {} bytes long, the most is {MAX_TEXT}", bytes.len());
        return Err(Problem::error("", message).remedy("keep images and large files out of it").into());
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Problem::error("", "the config is UTF-16").remedy("save it as UTF-8").into());
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let bad = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let before = std::str::from_utf8(before).unwrap_or_default();
            let what = if before.contains('\0') { "binary data" } else { "not UTF-8" };
            let problem = Problem::error("", format!("{what}: byte 0x{bad:02x}")).at(Some(end_of(before)));
            return Err(problem.remedy("the config is YAML, saved as UTF-8").into());
        }
    };
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    match text.char_indices().find(|(_, letter)| is_forbidden(*letter)) {
        None => Ok(text),
        Some((offset, letter)) => {
            let message = match letter {
                '\0' => "binary data: a NUL byte".to_owned(),
                other => format!("control character 0x{:02x}", u32::from(other)),
            };
            let place = end_of(text.get(..offset).unwrap_or_default());
            Err(Problem::error("", message)
                .at(Some(place))
                .remedy("the config is YAML, saved as UTF-8")
                .into())
        }
    }
}

/// What YAML does not allow in a text.
fn is_forbidden(letter: char) -> bool {
    !matches!(letter, '\t' | '\n' | '\r' | '\u{85}') && letter.is_control()
        || matches!(letter, '\u{fffe}' | '\u{ffff}')
}

/// Line and column, from 1, of what comes after this text.
fn end_of(text: &str) -> Place {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The text by line, as the YAML parser counts lines: for how a scalar was written, which its value does not tell.
#[derive(Debug)]
pub(super) struct Source<'text> {
    text: &'text str,
    /// Byte offsets of the lines' beginnings.
    lines: Vec<usize>,
    /// A column is then a byte: the long line of a JSON text need not be counted through.
    is_ascii: bool,
}

impl<'text> Source<'text> {
    /// Finds the lines.
    pub(super) fn new(text: &'text str) -> Self {
        let mut lines = vec![0];
        let mut letters = text.char_indices().peekable();
        while let Some((offset, letter)) = letters.next() {
            let ends = match letter {
                '\r' => letters.peek().is_none_or(|(_, next)| *next != '\n'),
                '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => true,
                _ => false,
            };
            if ends {
                lines.push(offset + letter.len_utf8());
            }
        }
        Self { text, lines, is_ascii: text.is_ascii() }
    }

    /// The character at a place.
    pub(super) fn letter(&self, place: Place) -> Option<char> {
        self.from(place)?.chars().next()
    }

    /// The plain (unquoted, one-word) scalar that is written at a place, behind its anchor or tag; `None` when it is
    /// quoted, a block, or not there.
    pub(super) fn plain_word(&self, place: Place) -> Option<&'text str> {
        let mut rest = self.from(place)?;
        while rest.starts_with(['&', '!']) {
            rest = rest.split_once([' ', '\t'])?.1.trim_start_matches([' ', '\t']);
        }
        let end =
            rest.find(|letter: char| letter.is_whitespace() || ",]}".contains(letter)).unwrap_or(rest.len());
        let word = rest.get(..end)?.trim_end_matches(':');
        (!word.is_empty() && !word.starts_with(['"', '\'', '|', '>', '[', '{'])).then_some(word)
    }

    fn from(&self, (line, column): Place) -> Option<&'text str> {
        let from_line = self.text.get(*self.lines.get(line.checked_sub(1)?)?..)?;
        let column = column.checked_sub(1)?;
        let offset = if self.is_ascii { column } else { from_line.char_indices().nth(column)?.0 };
        from_line.get(offset..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_are_found_as_written() {
        let source = Source::new("a: 1.10\r\nb: &x 0755 # no\nü: [yes, \"no\"]\r&y !t  z: ~\n");
        for (place, want) in [
            ((1, 4), Some("1.10")),
            ((2, 4), Some("0755")),
            ((3, 5), Some("yes")),
            ((3, 10), None),
            ((3, 4), None),
            ((4, 1), Some("z")),
            ((4, 11), Some("~")),
            ((9, 1), None),
            ((0, 0), None),
        ] {
            assert_eq!(source.plain_word(place), want, "{place:?}");
        }
    }
}
