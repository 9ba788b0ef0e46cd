//! Lists in a line for people, of bounded length.

/// More names than these do not help who reads them on a console.
pub const NAMES_MAX: usize = 8;

/// The names with commas between them; of many the first ones and the number of the others.
pub fn list(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_short_however_many_there_are() {
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a, b");
        let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(list(&many), "0, 1, 2, 3, 4, 5, 6, 7 and 92 more");
        assert_eq!(list(&many[..NAMES_MAX]), "0, 1, 2, 3, 4, 5, 6, 7");
    }
}
