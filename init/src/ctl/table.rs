//! Columns with upper-case headings, as wide as they need to be; spans of time as people write them.

use serde_json::Value;
use std::fmt::Write;

/// Rows under headings, columns two blanks apart. A text's own line feeds become blanks.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&headings).chain(rows).collect();
    let wide = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(wide).collect();
    let mut text = String::new();
    for line in lines {
        let mut printed = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a String does not fail.
            let _ = write!(printed, "{:<width$}  ", cell.replace(['\n', '\t'], " "));
        }
        text.push_str(printed.trim_end());
        text.push('\n');
    }
    text
}

/// A table of objects that are not known here: each name is a column.
pub(super) fn of_objects(objects: &[Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in objects.iter().filter_map(Value::as_object).flat_map(|object| object.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let headings: Vec<String> = names.iter().map(|name| name.replace('_', "-").to_uppercase()).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let row = |object: &Value| names.iter().map(|name| cell(object.get(name))).collect();
    table(&headings, &objects.iter().map(row).collect::<Vec<_>>())
}

/// A value as a cell; nothing is `-`.
pub(super) fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// `12s`, `5m3s`, `2h10m`, `3d4h`: two units, as kubectl has it.
pub(super) fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Seconds since boot with their thousandths, as the kernel's log has them: `[   12.345]`.
pub(super) fn stamp(milliseconds: u64) -> String {
    format!("[{:>5}.{:03}]", milliseconds / 1000, milliseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["kubelet".into(), "up".into()], vec!["l\tög".into(), "a\nb".into()]];
        assert_eq!(table(&["NAME", "STATE"], &rows), "NAME     STATE\nkubelet  up\nl ög     a b\n");
        assert_eq!(table(&["NAME"], &[]), "NAME\n");
    }

    #[test]
    fn unknown_objects_have_a_column_for_each_name() {
        let objects = [json!({"b": 1, "a_b": "x"}), json!({"c": null, "b": [1]})];
        assert_eq!(of_objects(&objects), "A-B  B    C\nx    1    -\n-    [1]  -\n");
    }

    #[test]
    fn spans_have_two_units() {
        let cases =
            [(0, "0s"), (119_999, "119s"), (120_000, "2m0s"), (7_260_000, "2h1m"), (90_000_000, "1d1h")];
        for (milliseconds, expected) in cases {
            assert_eq!(span(milliseconds), expected);
        }
        assert_eq!(stamp(12_345), "[   12.345]");
    }
}
