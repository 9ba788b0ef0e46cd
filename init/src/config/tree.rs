//! YAML text -> a tree of values, each with its line and column.
//!
//! serde hands out values without their places, and serde_yaml tells a place only with an error. So each scalar,
//! once taken, ends its own deserialization with an error on purpose; the error brings the place, and the list or
//! map around it goes on with its next item, and no second parser is needed. Where an error brings no place the values
//! are still right and problems just lose their line.
//!
//! Such an error costs more than its scalar, and a config in which nothing is wrong needs no places. [`Places::Few`]
//! leaves out those of text, which are most; how another scalar was written is found by its place.
//!
//! Bounds: [`CONFIG`] and [`POD`], [`MAX_KEY`], and serde_yaml's own on depth (128) and repeated aliases.

use super::Problem;
use super::node::{Entry, Kind, Node, Place};
use super::text::Source;
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use std::cell::Cell;
use std::fmt;

/// Of a config: 10,000 small pods, which fit the child's memory. Its bytes are bounded by that.
const CONFIG: Most =
    Most { values: 500_000, bytes: usize::MAX, exceeded: "more than 500,000 values, aliases written out" };
/// Of a pod: a hundred times a large one. It is read by a process that works on with what it reads.
const POD: Most = Most {
    values: 50_000,
    bytes: 16 << 20,
    exceeded: "more than 50,000 values or 16 MiB, aliases written out",
};
/// Longest key in bytes: three times the longest that Kubernetes has.
const MAX_KEY: usize = 1024;

/// What is taken of one text, aliases written out.
#[derive(Debug, Clone, Copy)]
struct Most {
    values: usize,
    /// Of scalars that are text.
    bytes: usize,
    exceeded: &'static str,
}

/// Which scalars are given their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// Those whose value depends on how it was written. All values and keys are as with [`Self::All`].
    Few,
    /// All.
    All,
}

/// Reads every document of a text. The error is what stopped the parser, with its place.
pub(super) fn documents(text: &str, source: &Source<'_>, places: Places) -> Result<Vec<Node>, Box<Problem>> {
    let reader = Reader::new(source, places, CONFIG);
    serde_yaml::Deserializer::from_str(text).map(|document| reader.document(document)).collect()
}

/// Reads the first document of a text, which holds a pod; nothing where there is none. The error is as that of
/// [`documents`].
pub(super) fn first(text: &str, source: &Source<'_>) -> Result<Node, Box<Problem>> {
    let reader = Reader::new(source, Places::Few, POD);
    let nothing = Node { place: None, kind: Kind::Null };
    serde_yaml::Deserializer::from_str(text).next().map_or(Ok(nothing), |document| reader.document(document))
}

/// The parser's error as a problem, in words that help where its own do not.
fn explain(
    source: &Source<'_>,
    error: &serde_yaml::Error,
    refused: Option<(&'static str, Option<Place>)>,
) -> Problem {
    let place = error.location().map(|place| (place.line(), place.column()));
    let text = error.to_string();
    if let Some((refused, at)) = refused {
        return Problem::error("", refused).at(at.or(place));
    }
    if place.and_then(|place| source.letter(place)) == Some('\t') {
        return Problem::error("", "a tab where YAML wants spaces").at(place).remedy("indent by spaces");
    }
    if text.starts_with("recursion limit exceeded") || text.contains(": recursion limit exceeded") {
        return Problem::error("", "nested deeper than 128 levels").at(place);
    }
    if text.contains("repetition limit exceeded") {
        return Problem::error("", "its aliases repeat too much").at(place).remedy("write the values out");
    }
    let (line, column) = place.unwrap_or_default();
    let message = text.replace(&format!(" at line {line} column {column}"), "");
    Problem::error("", format!("not YAML: {message}")).at(place)
}

struct Reader<'a> {
    source: &'a Source<'a>,
    places: Places,
    left: Cell<Most>,
    /// Why we, not the parser, gave up, and where if that is known.
    refused: Cell<Option<(&'static str, Option<Place>)>>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source<'a>, places: Places, most: Most) -> Self {
        Self { source, places, left: Cell::new(most), refused: Cell::new(None) }
    }

    fn document(&self, document: serde_yaml::Deserializer<'_>) -> Result<Node, Box<Problem>> {
        let mut taken = None;
        let result = Seed { reader: self, taken: &mut taken, for_place: false }.deserialize(document);
        match (taken, result) {
            (_, Err(error)) => Err(explain(self.source, &error, self.refused.take()).into()),
            (kind, Ok(())) => Ok(Node { place: Some((1, 1)), kind: kind.unwrap_or(Kind::Null) }),
        }
    }

    /// One more value, or so many more bytes, are taken.
    fn takes<E: de::Error>(&self, values: usize, bytes: usize) -> Result<(), E> {
        let left = self.left.get();
        match (left.values.checked_sub(values), left.bytes.checked_sub(bytes)) {
            (Some(values), Some(bytes)) => {
                self.left.set(Most { values, bytes, ..left });
                Ok(())
            }
            _ => Err(self.refuse(left.exceeded, None)),
        }
    }

    /// Whether a scalar's place is wanted.
    fn wants_place(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Text(text) => self.places == Places::All || may_be_octal(text),
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => true,
        }
    }

    /// Settles one item of a list or map after its seed has run: a scalar whose error brought its place, one that needs
    /// none, a list or map, or an error that ends it all.
    fn settle<E: de::Error>(&self, taken: Option<Kind>, result: Result<(), E>) -> Result<Node, E> {
        match (taken, result) {
            (Some(kind @ (Kind::List(_) | Kind::Map(_))), Ok(())) => Ok(Node { place: None, kind }),
            (Some(kind), Err(error)) => Ok(self.scalar(kind, place_of(&error))),
            (_, Err(error)) => Err(error),
            (kind, Ok(())) => Ok(Node { place: None, kind: kind.unwrap_or(Kind::Null) }),
        }
    }

    fn scalar(&self, kind: Kind, place: Option<Place>) -> Node {
        let kind = match kind {
            Kind::Text(text) => self.octal(&text, place).map_or(Kind::Text(text), Kind::Number),
            other => other,
        };
        Node { place, kind }
    }

    /// Talos's YAML takes an unquoted 0644 for an octal number; YAML 1.2 for text.
    fn octal(&self, text: &str, place: Option<Place>) -> Option<Number> {
        let digits = text.strip_prefix('0').filter(|_| may_be_octal(text))?;
        let value = u64::from_str_radix(digits, 8).ok()?;
        (self.source.plain_word(place?)? == text).then(|| value.into())
    }

    fn key<E: de::Error>(&self, kind: Kind, place: Option<Place>) -> Result<String, E> {
        let word = place.and_then(|place| self.source.plain_word(place));
        let key = match (kind, word) {
            (Kind::Text(text), _) => text,
            (Kind::Flag(_) | Kind::Number(_) | Kind::Null, Some(word)) => word.to_owned(),
            (Kind::Flag(flag), None) => flag.to_string(),
            (Kind::Number(number), None) => number.to_string(),
            (Kind::Null, None) => String::new(),
            (Kind::List(_) | Kind::Map(_), _) => return Err(self.refuse("a key that is not text", place)),
        };
        match key.len() <= MAX_KEY {
            true => Ok(key),
            false => Err(self.refuse("a key longer than 1,024 bytes", place)),
        }
    }

    fn refuse<E: de::Error>(&self, why: &'static str, place: Option<Place>) -> E {
        self.refused.set(Some((why, place)));
        E::custom(why)
    }
}

fn may_be_octal(text: &str) -> bool {
    text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The place that an error's text ends with; the parser does not name line 1, column 1.
fn place_of(error: &impl fmt::Display) -> Option<Place> {
    let text = error.to_string();
    let Some((_, place)) = text.rsplit_once(" at line ") else { return Some((1, 1)) };
    let (line, column) = place.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// Takes one value into `taken`.
struct Seed<'a> {
    reader: &'a Reader<'a>,
    taken: &'a mut Option<Kind>,
    /// End with an error after a scalar whose place is wanted.
    for_place: bool,
}

impl Seed<'_> {
    fn scalar<E: de::Error>(self, kind: Kind) -> Result<(), E> {
        let for_place = self.for_place && self.reader.wants_place(&kind);
        *self.taken = Some(kind);
        if for_place { Err(E::custom("taken")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.reader.takes(1, 0)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar(Kind::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.scalar(Kind::Null)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<(), E> {
        self.scalar(Kind::Flag(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        self.scalar(Kind::Number(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        self.scalar(Kind::Number(number.into()))
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    /// What JSON cannot hold (`.inf`, `.nan`) stays text, which then is of the wrong type where it matters.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        self.scalar(Number::from_f64(number).map_or_else(|| Kind::Text(number.to_string()), Kind::Number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.reader.takes(0, text.len())?;
        self.scalar(Kind::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut items = Vec::new();
        loop {
            let mut taken = None;
            let seed = Seed { reader: self.reader, taken: &mut taken, for_place: true };
            let result = match access.next_element_seed(seed) {
                Ok(None) => break,
                Ok(Some(())) => Ok(()),
                Err(error) => Err(error),
            };
            items.push(self.reader.settle(taken, result)?);
        }
        *self.taken = Some(Kind::List(items));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut entries = Vec::new();
        loop {
            let mut taken = None;
            let seed = Seed { reader: self.reader, taken: &mut taken, for_place: true };
            let result = match access.next_key_seed(seed) {
                Ok(None) => break,
                Ok(Some(())) => Ok(()),
                Err(error) => Err(error),
            };
            let node = self.reader.settle(taken, result)?;
            let place = node.first_place();
            let key = self.reader.key(node.kind, place)?;
            let mut taken = None;
            let seed = Seed { reader: self.reader, taken: &mut taken, for_place: true };
            let result = access.next_value_seed(seed);
            entries.push(Entry { key, place, node: self.reader.settle(taken, result)? });
        }
        *self.taken = Some(Kind::Map(entries));
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _access: A) -> Result<(), A::Error> {
        Err(self.reader.refuse("a YAML tag (a word that begins with !): Podium knows none", None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let mut documents = documents(text, &Source::new(text), Places::All).unwrap();
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    #[test]
    fn without_places_of_text_all_is_the_same_but_those() {
        fn texts(node: &mut Node) {
            match &mut node.kind {
                Kind::Text(text) if !may_be_octal(text) => node.place = None,
                Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) => {}
                Kind::List(items) => items.iter_mut().for_each(texts),
                Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
                    entry.place = None;
                    texts(&mut entry.node);
                }),
            }
        }
        let text = "a: [0644, '0644', 0899, 0o644, 00, 0, yes, ~, 1.10, 1e3, .inf, \"\\x30\", true]
0x1F: x
1.10: {true: y, ~: z, 0644: '0', 010: 0}
? 
: nothing
b: &x |
  0644
c: *x
---
0644
---
";
        let mut few = documents(text, &Source::new(text), Places::Few).unwrap();
        let mut all = documents(text, &Source::new(text), Places::All).unwrap();
        let place_of_c = |documents: &[Node]| documents[0].get("c").and_then(|node| node.place);
        assert_eq!((place_of_c(&few), place_of_c(&all)), (None, Some((6, 4))));
        few.iter_mut().for_each(texts);
        all.iter_mut().for_each(texts);
        assert_eq!(format!("{few:?}"), format!("{all:?}"));
    }

    #[test]
    fn every_path_has_its_place() {
        let text = "\
# a comment
machine:
  pods:
    - name: a   # first

      list: [1, two, {x: 3}]
    - - inner
    -
      name: b
  sysctls:
    net.ipv4.ip_forward: 1
    net: {ipv4: 2}
    text: |
      machine:
        no: yes
  ü: \"quoted\"
last: &anchor
  deep: true
copy: *anchor
";
        let tree = tree(text);
        for (path, want) in [
            ("machine", Some((2, 1))),
            ("machine.pods", Some((3, 3))),
            ("machine.pods[0]", Some((4, 7))),
            ("machine.pods[0].name", Some((4, 7))),
            ("machine.pods[0].list", Some((6, 7))),
            ("machine.pods[0].list[0]", Some((6, 14))),
            ("machine.pods[0].list[1]", Some((6, 17))),
            ("machine.pods[0].list[2].x", Some((6, 23))),
            ("machine.pods[0].absent.below", Some((4, 7))),
            ("machine.pods[1][0]", Some((7, 9))),
            ("machine.pods[2].name", Some((9, 7))),
            ("machine.pods[9]", Some((3, 3))),
            ("machine.sysctls[\"net.ipv4.ip_forward\"]", Some((11, 5))),
            ("machine.sysctls.net.ipv4", Some((12, 11))),
            ("machine.sysctls.text", Some((13, 5))),
            ("machine[\"ü\"]", Some((16, 3))),
            ("copy.deep", Some((18, 3))),
            ("absent", None),
        ] {
            assert_eq!(tree.locate(path), want, "{path}");
        }
    }

    #[test]
    fn values_keep_their_types_and_keys_their_spelling() {
        let tree = tree(
            "a: 0644\nb: '0644'\nc: 0o644\nd: yes\ne: ~\nf: 1e3\ng: 0899\nh: .inf\ni: \"\\x30\"\n0x1F: 1\n1.10: 2\ntrue: 3\n",
        );
        let show = |key: &str| tree.get(key).map(|node| format!("{:?}", node.kind)).unwrap_or_default();
        for (key, want) in [
            ("a", "Number(Number(420))"),
            ("b", "Text(\"0644\")"),
            ("c", "Number(Number(420))"),
            ("d", "Text(\"yes\")"),
            ("e", "Null"),
            ("f", "Number(Number(1000.0))"),
            ("g", "Text(\"0899\")"),
            ("h", "Text(\"inf\")"),
            ("i", "Text(\"0\")"),
            ("0x1F", "Number(Number(1))"),
            ("1.10", "Number(Number(2))"),
            ("true", "Number(Number(3))"),
        ] {
            assert_eq!(show(key), want, "{key}");
        }
    }

    #[test]
    fn duplicate_keys_are_kept_with_their_places() {
        let tree = tree("a: 1\nb: 2\na: 3\n");
        let Kind::Map(entries) = tree.kind else { panic!("no map") };
        let keys: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.place)).collect();
        assert_eq!(keys, [("a", Some((1, 1))), ("b", Some((2, 1))), ("a", Some((3, 1)))]);
    }

    #[test]
    fn a_document_may_be_a_scalar_or_nothing() {
        for (text, want) in
            [("", "Null"), ("# x\n", "Null"), ("hello", "Text(\"hello\")"), ("[]", "List([])")]
        {
            assert_eq!(format!("{:?}", tree(text).kind), want, "{text:?}");
        }
    }
}
