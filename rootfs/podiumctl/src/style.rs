//! Colours, for terminals alone. It decides what a text looks like; whether there is a terminal is the caller's
//! knowledge.

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Colours when `terminal` is one and the environment's NO_COLOR is unset or empty.
    pub fn new(terminal: bool, no_color: Option<&str>) -> Self {
        Self { colour: terminal && no_color.is_none_or(str::is_empty) }
    }

    /// Whether anything is coloured.
    pub fn is_coloured(self) -> bool {
        self.colour
    }

    /// For what failed or goes.
    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// For what is well or comes.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what somebody should look at.
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For places.
    pub fn blue(self, text: &str) -> String {
        self.paint("34", text)
    }

    /// For a headline.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_colours_on_terminals_alone_and_never_against_the_users_word() {
        assert_eq!(Style::new(true, None).red("x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Style::new(true, Some("")).bold("x"), "\u{1b}[1mx\u{1b}[0m");
        for plain in [Style::new(false, None), Style::new(true, Some("1")), Style::default()] {
            assert_eq!(plain.green("x"), "x");
        }
    }
}
