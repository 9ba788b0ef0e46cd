//! Tables of the README that a test holds against a running node: cells as they are written there, without backticks.

use anyhow::{Context, Result, ensure};
use std::path::Path;

/// The rows of the table behind `<!-- name -->`, without its heading; each has `columns` cells.
///
/// # Errors
/// There is no such table, or a row of it has another number of cells.
pub fn table(name: &str, columns: usize) -> Result<Vec<Vec<String>>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    parse(&text, name, columns)
}

fn parse(text: &str, name: &str, columns: usize) -> Result<Vec<Vec<String>>> {
    let (_, rest) =
        text.split_once(&format!("<!-- {name} -->")).with_context(|| format!("no table {name}"))?;
    let (block, _) = rest.split_once("<!-- end -->").with_context(|| format!("table {name} has no end"))?;
    let rows = block.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
    let rows: Vec<Vec<String>> =
        rows.skip(2).map(|row| row.split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect();
    ensure!(!rows.is_empty(), "table {name} is empty");
    for row in &rows {
        ensure!(row.len() == columns, "table {name}: {} cells and not {columns} in {row:?}", row.len());
    }
    Ok(rows)
}

/// Whether a path is one that `pattern` means: a `*` stands for any letters but a slash.
#[must_use]
pub fn is_like(pattern: &str, path: &str) -> bool {
    let (parts, have): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    parts.len() == have.len() && parts.iter().zip(have).all(|(part, name)| part_is_like(part, name))
}

/// The same for any text: a `*` stands for any letters.
#[must_use]
pub fn part_is_like(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    // Each piece is taken as early as it comes, the last one from the end.
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, after)) = left.split_once(piece) else { return false };
        left = after;
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cells_without_backticks() {
        let text =
            "x\n<!-- ports -->\n\n| a | b |\n|---|---|\n| `tcp` | 1 |\n| udp | `2` |\n\n<!-- end -->\n| c |";
        assert_eq!(parse(text, "ports", 2).unwrap(), [["tcp", "1"], ["udp", "2"]]);
        assert!(parse(text, "ports", 3).unwrap_err().to_string().contains("2 cells and not 3"));
        assert!(parse(text, "mounts", 2).unwrap_err().to_string().contains("no table mounts"));
    }

    #[test]
    fn a_star_stands_for_a_part_of_one_name() {
        for (pattern, path, like) in [
            ("/a/*.json", "/a/x.json", true),
            ("/a/*.json", "/a/b/x.json", false),
            ("/a/*", "/a/x", true),
            ("/a/*", "/a", false),
            ("/a/x-*-y.*", "/a/x-1-2-y.z", true),
            ("/a/x-*-y", "/a/x-y", false),
            ("/a", "/a", true),
        ] {
            assert_eq!(is_like(pattern, path), like, "{pattern} {path}");
        }
        assert!(part_is_like("size=*", "size=4k/8") && !part_is_like("size=*", "nr=1"));
    }
}
