//! Configs that are small and want a lot: of memory, of depth, of time.

use super::is_refused;
use podium_tests::faults::Fault;

/// What is done, the config, what the console's line about it holds.
pub(super) const BOMBS: &[super::Refused] = &[
    ("alias bomb", aliases, &["its aliases repeat too much", "write the values out"]),
    ("an alias that holds itself", || b"a: &a [*a]\n".to_vec(), &["line 1", "nested deeper than 128 levels"]),
    ("lists 10,000 deep", || "[".repeat(10_000).into(), &["line 1", "nested deeper than 128 levels"]),
    ("mappings 10,000 deep", || "{a: ".repeat(10_000).into(), &["line 1", "nested deeper than 128 levels"]),
    ("2,000 deep by indentation", indented, &["nested deeper than 128 levels"]),
    ("600,000 values", || flat(600_000), &["more than 500,000 values"]),
    ("2,000,000 values", || flat(2_000_000), &["takes more than 256 MiB of memory", "smaller or simpler"]),
    ("a key of 1 MB", || format!("{}: 1\n", "k".repeat(1 << 20)).into(), &["line 1: not YAML"]),
    ("a tag of 1 MB", || format!("!{} 1\n", "t".repeat(1 << 20)).into(), &["line 1"]),
];

/// All of this file.
pub(super) fn faults() -> Vec<Fault> {
    let fault = |&(name, bytes, parts): &super::Refused| {
        let expected = format!("refused with {parts:?}, by the parsing child alone; the node serves");
        Fault::in_namespace("config", name, expected, move || is_refused(&bytes(), parts))
    };
    BOMBS.iter().map(fault).collect()
}

/// Ten to the twelfth values on a page.
fn aliases() -> Vec<u8> {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let one = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [one.as_str(); 10].join(", "));
    }
    text.into()
}

fn indented() -> Vec<u8> {
    (0..2_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>().into()
}

fn flat(values: usize) -> Vec<u8> {
    format!("[{}]", "a,".repeat(values)).into()
}
