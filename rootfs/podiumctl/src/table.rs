//! Rows of text as aligned columns, in the form that talosctl's tables have: three spaces between columns, no lines.
//!
//! What stands in a cell may come from anybody: control characters are shown, never sent to the terminal. A table that
//! grows while it is shown (`-w`) keeps the widths it has had. Nothing here prints.

use unicode_width::UnicodeWidthStr;

/// Between two columns.
const GAP: usize = 3;

/// A table that is rendered a batch of rows at a time.
#[derive(Debug, Clone)]
pub struct Table {
    gap: usize,
    widths: Vec<usize>,
    header: Option<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<S: AsRef<str>>(header: &[S]) -> Self {
        let header: Vec<String> = header.iter().map(|name| name.as_ref().to_owned()).collect();
        Self { gap: GAP, widths: vec![0; header.len()], header: Some(header) }
    }

    /// Rows without a header, for `name  value` lists.
    pub fn bare(columns: usize) -> Self {
        Self { gap: GAP, widths: vec![0; columns], header: None }
    }

    /// Another space between columns than three.
    #[must_use]
    pub fn gap(mut self, gap: usize) -> Self {
        self.gap = gap;
        self
    }

    /// These rows as lines, the header above the first ones. Columns are never narrower than in an earlier batch.
    pub fn render(&mut self, rows: &[Vec<String>]) -> String {
        let rows: Vec<Vec<String>> =
            self.header.take().into_iter().chain(rows.iter().cloned()).map(clean).collect();
        for row in &rows {
            for (at, cell) in row.iter().enumerate() {
                match self.widths.get_mut(at) {
                    Some(width) => *width = (*width).max(cell.width()),
                    None => self.widths.push(cell.width()),
                }
            }
        }
        let mut text = String::new();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&self.widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.width() + self.gap));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Text for a terminal: control characters as they are written in source code.
pub fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let shown = |character: char| match character {
        '\t' => " ".to_owned(),
        character if character.is_control() => character.escape_default().to_string(),
        character => character.to_string(),
    };
    text.chars().map(shown).collect()
}

/// The same for text of several lines: line feeds and tabs stay, and what Windows writes before a line feed.
pub fn printable_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => shown.push(character),
            '\r' if characters.peek() == Some(&'\n') => shown.push(character),
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

fn clean(row: Vec<String>) -> Vec<String> {
    row.into_iter().map(|cell| printable(&cell)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_the_last_one_is_not_padded() {
        let text = Table::new(&["NODE", "ID"]).render(&[row(&["a", "└─ x"]), row(&["longer", ""])]);
        assert_eq!(text, "NODE     ID\na        └─ x\nlonger\n");
    }

    #[test]
    fn a_later_batch_keeps_the_columns_and_has_no_header() {
        let mut table = Table::new(&["A", "B"]);
        assert_eq!(table.render(&[row(&["wide one", "1"])]), "A          B\nwide one   1\n");
        assert_eq!(table.render(&[row(&["x", "2"])]), "x          2\n");
    }

    #[test]
    fn nothing_in_a_cell_moves_the_terminal() {
        assert_eq!(Table::bare(1).render(&[row(&["a\u{1b}[2Jb\nc"])]), "a\\u{1b}[2Jb\\nc\n");
    }

    #[test]
    fn text_of_several_lines_keeps_them_and_nothing_else_that_moves_the_terminal() {
        let text = "a:\t1\r\n\u{1b}]0;x\u{7}b\rc\u{9b}2Jä\n";
        assert_eq!(printable_lines(text), "a:\t1\r\n\\u{1b}]0;x\\u{7}b\\rc\\u{9b}2Jä\n");
    }
}
