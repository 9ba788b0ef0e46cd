//! Problems of a machine config with the line they are in and a caret under the place, as compilers show them.
//!
//! A problem comes from the config parser of this program (`validate`) or as a line from a node (`apply-config`). The
//! node's word counts; where the same problem is found here, its column is known, else the key is looked for in its
//! line. Secrets are not shown: of a line that may hold one only the key is.

use crate::secrets;
use crate::style::Style;
use crate::table::printable;
use podium_init::config::{Problem, Severity};
use unicode_width::UnicodeWidthStr;

/// Longer lines are cut: a certificate in base64 is one line.
const MOST_SHOWN: usize = 160;

/// A text that has problems, as it may be shown.
#[derive(Debug)]
pub struct Source {
    name: String,
    lines: Vec<String>,
}

impl Source {
    /// `name` is what the text is called (`node.yaml`). What is secret in a line the lines above it may say, so this
    /// looks at the whole.
    pub fn new(name: &str, text: &str) -> Self {
        let lines = secrets::hide(text, "").0.lines().map(str::to_owned).collect();
        Self { name: name.to_owned(), lines }
    }
}

/// One problem for a terminal, several lines.
pub fn show(problem: &Problem, source: &Source, style: Style) -> String {
    let Source { name, lines } = source;
    let (word, paint): (&str, fn(Style, &str) -> String) = match problem.severity {
        Severity::Error => ("error", Style::red),
        Severity::Warning => ("warning", Style::yellow),
    };
    let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
    let headline = printable(&format!("{path}{}", problem.message));
    let mut shown = format!("{}: {}\n", paint(style, word), style.bold(&headline));
    if let Some((number, line)) =
        problem.line.and_then(|number| Some((number, lines.get(number.checked_sub(1)?)?)))
    {
        let (column, width) = place(problem, line);
        let gutter = " ".repeat(number.to_string().len());
        let bar = style.blue("|");
        let before: String = line.chars().take(column - 1).collect();
        shown.push_str(&format!("{gutter}{} {name}:{number}:{column}\n", style.blue("-->")));
        shown.push_str(&format!("{gutter} {bar}\n"));
        shown.push_str(&format!("{} {bar} {}\n", style.blue(&number.to_string()), visible(line)));
        if before.width() < MOST_SHOWN {
            let carets = paint(style, &"^".repeat(width));
            shown.push_str(&format!("{gutter} {bar} {}{carets}\n", " ".repeat(printable(&before).width())));
        }
        if let Some(remedy) = &problem.remedy {
            shown.push_str(&format!("{gutter} {} {}\n", style.blue("="), printable(remedy)));
        }
    } else if let Some(remedy) = &problem.remedy {
        shown.push_str(&format!(" {} {}\n", style.blue("="), printable(remedy)));
    }
    shown
}

/// The problems in a node's message; what is none is in the second list.
///
/// A line reads `line 3: machine.podz: unknown key; remedy` ([`Problem`]'s own form); those that `known` has, too, are
/// taken from there.
pub fn from_message(message: &str, known: &[Problem]) -> (Vec<Problem>, Vec<String>) {
    let mut problems = Vec::new();
    let mut others = Vec::new();
    for line in message.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let bare = line.trim_start_matches("* ").trim_start_matches("error: ");
        match known.iter().find(|problem| problem.to_string() == bare) {
            Some(problem) => problems.push(problem.clone()),
            None => match read(bare) {
                Some(problem) => problems.push(problem),
                None => others.push(line.to_owned()),
            },
        }
    }
    (problems, others)
}

/// A node's message that was cut (`… 12 more` stands where the rest was), with the errors in that place that `known` has
/// and the message has not. What is still missing then is said in the same way; any other message stays as it is.
pub fn uncut(message: &str, known: &[Problem]) -> String {
    let cut = |line: &str| line.strip_prefix("… ")?.strip_suffix(" more")?.parse::<usize>().ok();
    let Some(missing) = message.lines().find_map(|line| cut(line.trim())) else { return message.to_owned() };
    let told: Vec<&str> = message.lines().filter(|line| cut(line.trim()).is_none()).collect();
    let has = |problem: &String| told.iter().any(|line| line.trim() == problem);
    let errors = known.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string);
    let added: Vec<String> = errors.filter(|problem| !has(problem)).collect();
    let rest = missing.saturating_sub(added.len());
    let mut lines: Vec<&str> = told;
    lines.extend(added.iter().map(String::as_str));
    let rest = if rest == 0 { String::new() } else { format!("\n… {rest} more") };
    lines.join("\n") + &rest
}

/// A problem's line without a parser: `line N: PATH: MESSAGE; REMEDY`.
fn read(line: &str) -> Option<Problem> {
    let (number, rest) = line.strip_prefix("line ")?.split_once(": ")?;
    let number = number.parse().ok()?;
    let (path, message) = match rest.split_once(": ") {
        Some((path, message)) if !path.contains(' ') => (path, message),
        _ => ("", rest),
    };
    let (severity, message) = match message.strip_prefix("warning: ") {
        Some(message) => (Severity::Warning, message),
        None => (Severity::Error, message),
    };
    let (message, remedy) = match message.split_once("; ") {
        Some((message, remedy)) => (message, Some(remedy.to_owned())),
        None => (message, None),
    };
    let mut problem = match severity {
        Severity::Error => Problem::error(path, message),
        Severity::Warning => Problem::warning(path, message),
    };
    problem.line = Some(number);
    problem.remedy = remedy;
    Some(problem)
}

/// Column from 1 and length of what the caret stands under, in characters.
fn place(problem: &Problem, line: &str) -> (usize, usize) {
    let key = last_key(&problem.path);
    let at_key = key.and_then(|key| line.find(key).map(|at| line[..at].chars().count() + 1));
    let first = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
    let column = problem.column.or(at_key).unwrap_or(first).max(1);
    let rest: String = line.chars().skip(column - 1).collect();
    let length = match key {
        Some(key) if rest.starts_with(key) => key.chars().count(),
        _ => rest.split(" #").next().unwrap_or_default().trim_end().chars().count(),
    };
    (column, length.clamp(1, MOST_SHOWN))
}

/// `podz` of `machine.podz`, `image` of `machine.pods[0].spec.containers[1].image`, `a.b` of `machine.sysctls["a.b"]`.
fn last_key(path: &str) -> Option<&str> {
    if let Some(quoted) = path.strip_suffix("\"]") {
        return quoted.rsplit("[\"").next();
    }
    let path = path.split('[').next_back().map_or(path, |end| if end.contains('.') { end } else { path });
    let key = path.rsplit('.').next()?.split('[').next()?;
    (!key.is_empty()).then_some(key)
}

/// A line as it is shown: cut.
fn visible(line: &str) -> String {
    let shown = printable(&line.replace('\t', " "));
    if shown.chars().count() > MOST_SHOWN {
        let cut: String = shown.chars().take(MOST_SHOWN).collect();
        return format!("{cut}…");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use podium_init::config::parse;

    const CONFIG: &str = "version: v1alpha1\nmachine:\n  podz: []\n  sysctls:\n    kernel.panic: [1]\n";

    #[test]
    fn the_caret_stands_under_the_key() {
        let outcome = parse(CONFIG.as_bytes());
        let shown: String = outcome
            .problems
            .iter()
            .map(|problem| show(problem, &Source::new("node.yaml", CONFIG), Style::default()))
            .collect();
        assert!(shown.contains(" --> node.yaml:3:3\n  |\n3 |   podz: []\n  |   ^^^^\n"), "{shown}");
        assert!(shown.contains("error: machine.podz: unknown key"), "{shown}");
        assert!(shown.contains("5 |     kernel.panic: [1]\n  |     ^^^^^^^^^^^^\n"), "{shown}");
    }

    #[test]
    fn a_nodes_lines_are_problems_again() {
        let known = parse(CONFIG.as_bytes()).problems;
        let told: Vec<String> = known.iter().map(ToString::to_string).collect();
        let message = format!("the config has 2 errors:\n{}\n", told.join("\n"));
        let (problems, others) = from_message(&message, &known);
        assert_eq!(problems, known);
        assert_eq!(others, ["the config has 2 errors:"]);
    }

    #[test]
    fn what_a_node_has_cut_is_told_from_the_same_text() {
        let known = parse(CONFIG.as_bytes()).problems;
        assert_eq!(known.len(), 2);
        let [first, second] = [known[0].to_string(), known[1].to_string()];
        let whole = format!("errors\n{first}\n{second}");
        assert_eq!(uncut(&format!("errors\n{first}\n… 1 more"), &known), whole);
        assert_eq!(uncut("errors\n… 2 more", &known), whole);
        assert_eq!(uncut("errors\n… 5 more", &known), format!("{whole}\n… 3 more"), "the node knows more");
        assert_eq!(uncut(&whole, &known), whole);
        assert_eq!(uncut(&format!("errors\n{first}\n"), &known), format!("errors\n{first}\n"), "not cut");
    }

    #[test]
    fn a_problem_that_only_the_node_knows_has_a_place_too() {
        let (problems, _) = from_message("line 3: machine.podz: too new a key; update podiumctl", &[]);
        let shown = show(&problems[0], &Source::new("c", CONFIG), Style::default());
        assert_eq!(
            shown,
            "error: machine.podz: too new a key\n --> c:3:3\n  |\n3 |   podz: []\n  |   ^^^^\n  = update podiumctl\n"
        );
    }

    #[test]
    fn a_key_is_never_shown() {
        let secret = "QUJD".repeat(20);
        let text = format!("machine:\n  ca:\n    key: {secret}\n");
        let problem = Problem::error("machine.ca.key", "is no key").at(Some((3, 5)));
        assert!(!show(&problem, &Source::new("c", &text), Style::default()).contains(&secret));
    }

    #[test]
    fn a_header_is_never_shown_on_its_keys_line_or_below_it() {
        let one_line = "machine:\n  kubelet:\n    staticPodURLHeader: {Authorization: Bearer secret}\n";
        let below = "machine:\n  kubelet:\n    staticPodURLHeader:\n      Authorization: Bearer secret\n";
        for (text, line) in [(one_line, 3), (below, 4)] {
            let path = "machine.kubelet.staticPodURLHeader";
            let problem = Problem::error(path, "is no list").at(Some((line, 5)));
            let shown = show(&problem, &Source::new("c", text), Style::default());
            assert!(!shown.contains("Bearer") && shown.contains("(secret)\n"), "{shown}");
        }
    }
}
