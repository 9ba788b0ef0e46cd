//! "Did you mean": the known name that a misspelt one is nearest to.
//!
//! Used for keys of the machine config, fields of pods and words of the kernel command line. It only compares names;
//! what is known is the caller's business.

/// Names longer than this are not compared: the cost is quadratic and nobody misspells a name of that length.
const MAX_NAME: usize = 64;

/// The candidate nearest to `name`, when near enough that a person may have meant it: a third of the letters may
/// differ, letter case and dashes against underscores do not count. On a tie the first candidate wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let wanted = fold(name);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_NAME)
        .map(|candidate| (candidate, distance(&wanted, &fold(candidate))))
        .filter(|(candidate, distance)| *distance <= (name.len().max(candidate.len()) / 3).max(1))
        .min_by_key(|(_, distance)| *distance)
        .map(|(candidate, _)| candidate)
}

/// `, did you mean pods?`, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map(|candidate| format!(", did you mean {candidate}?")).unwrap_or_default()
}

fn fold(name: &str) -> Vec<char> {
    name.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// Letters to insert, delete, replace, or swap with their neighbour (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut left_before = None;
    for (row, &left_letter) in left.iter().enumerate() {
        let mut now = vec![row + 1];
        let mut right_before = None;
        for (column, &right_letter) in right.iter().enumerate() {
            let at = |costs: &[usize], index: usize| costs.get(index).copied().unwrap_or(usize::MAX / 2);
            let replace = at(&last, column) + usize::from(left_letter != right_letter);
            let mut cost = replace.min(at(&last, column + 1) + 1).min(at(&now, column) + 1);
            if left_before == Some(right_letter) && right_before == Some(left_letter) && column > 0 {
                cost = cost.min(at(&before_last, column - 1) + 1);
            }
            now.push(cost);
            right_before = Some(right_letter);
        }
        left_before = Some(left_letter);
        before_last = std::mem::replace(&mut last, now);
    }
    last.last().copied().unwrap_or(left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let known = ["pods", "kubelet", "network", "sysctls", "sysfs", "extraHostEntries"];
        for (name, want) in [
            ("podz", Some("pods")),
            ("pod", Some("pods")),
            ("dops", None),
            ("opds", Some("pods")),
            ("Kubelet", Some("kubelet")),
            ("kublet", Some("kubelet")),
            ("netwrok", Some("network")),
            ("sysctl", Some("sysctls")),
            ("extra-host-entries", Some("extraHostEntries")),
            ("cluster", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), want, "{name}");
        }
    }

    #[test]
    fn distances_count_single_edits() {
        for (left, right, want) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(&fold(left), &fold(right)), want, "{left} {right}");
        }
    }

    #[test]
    fn a_huge_name_costs_nothing() {
        assert_eq!(nearest(&"x".repeat(1 << 20), ["pods"]), None);
    }
}
