//! Rust text with comments and the contents of literals blanked out, so that a rule finds code and not prose.
//!
//! Lines and columns stay where they were. It knows just enough of Rust's tokens for that; macros, types and names
//! mean nothing to it.

/// `text` with spaces in place of comments and of what stands between quotes.
pub(super) fn code_only(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        let end = match character {
            '/' if characters.get(at + 1) == Some(&'/') => line_end(&characters, at),
            '/' if characters.get(at + 1) == Some(&'*') => block_end(&characters, at),
            '"' => string_end(&characters, at),
            'r' if !follows_a_name(&characters, at) => raw_string_end(&characters, at).unwrap_or(at),
            '\'' => character_end(&characters, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(character);
            at += 1;
        } else {
            code.extend(characters[at..end].iter().map(|&inside| if inside == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// The part of a file before its unit tests.
pub(super) fn before_tests(text: &str) -> &str {
    let starts = ["\n#[cfg(test)]\nmod ", "\n#[cfg(test)]\n#[path"];
    starts.iter().filter_map(|start| text.find(start)).min().map_or(text, |end| &text[..=end])
}

/// True when `word` stands in `line` and is not part of a longer name.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let name = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let open_start = word.starts_with(|first: char| !name(first));
        let open_end = word.ends_with(|last: char| !name(last));
        (open_start || !before.is_some_and(name)) && (open_end || !after.is_some_and(name))
    })
}

fn line_end(text: &[char], from: usize) -> usize {
    text[from..].iter().position(|&character| character == '\n').map_or(text.len(), |length| from + length)
}

fn block_end(text: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

fn string_end(text: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `r"…"` or `r#"…"#`; `None` when the `r` begins something else.
fn raw_string_end(text: &[char], from: usize) -> Option<usize> {
    let hashes = text[from + 1..].iter().take_while(|&&character| character == '#').count();
    let open = from + 1 + hashes;
    if text.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |at: &usize| text[*at] == '"' && text[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    Some((open + 1..text.len()).find(closes).map_or(text.len(), |close| close + 1 + hashes))
}

/// `'x'` or `'\n'`; `None` for a lifetime.
fn character_end(text: &[char], from: usize) -> Option<usize> {
    if text.get(from + 1) == Some(&'\\') {
        let close = text[from + 3..].iter().take(10).position(|&character| character == '\'')?;
        return Some(from + 3 + close + 1);
    }
    (text.get(from + 2) == Some(&'\'')).then_some(from + 3)
}

fn follows_a_name(text: &[char], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| {
        text.get(before).is_some_and(|&character| character.is_alphanumeric() || character == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        let text = "let a = \"unsafe \\\" x\"; // unsafe\n/* unsafe /* x */ y */ let b = r#\"unsafe\"#;\nlet c: &'a str; '\"' '\\'' unsafe";
        let code = code_only(text);
        assert_eq!(code.matches("unsafe").count(), 1, "{code}");
        assert_eq!(code.lines().count(), 3);
        assert!(code.contains("let c: &'a str;") && code.contains("let b ="), "{code}");
    }

    #[test]
    fn a_word_is_not_found_inside_a_name() {
        assert!(has_word("x = wait(1)", "wait("));
        assert!(!has_word("await(1)", "wait("));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(has_word("unsafe {", "unsafe"));
    }

    #[test]
    fn tests_are_cut_off() {
        assert_eq!(before_tests("code\n\n#[cfg(test)]\nmod tests {}\n"), "code\n\n");
        assert_eq!(before_tests("code\n"), "code\n");
    }
}
