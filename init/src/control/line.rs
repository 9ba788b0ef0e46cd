//! One line of JSON as a short list of names with a scalar or a few texts: no request has anything else, so nothing
//! else is ever built in memory, whatever somebody sends.

use super::{Refusal, missing, named, shown};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// More than any request has.
const ARGUMENTS_MAX: usize = 16;
/// More texts than any argument has.
const TEXTS_MAX: usize = 8;

/// What is said of a line that is none: the parser's words hold what was sent, and that may be a whole line.
const ERROR_MAX: usize = 200;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar {
    Flag(bool),
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    Null,
}

/// The names and values of one line, each name once.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<(String, Scalar)>);

/// Reads the object on a line.
pub(super) fn read(line: &[u8]) -> Result<Arguments, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let read = json.deserialize_map(ObjectVisitor).and_then(|arguments| json.end().map(|()| arguments));
    read.map_err(|error| {
        Refusal::new(
            format!("no request: {}", crate::events::clean(&error.to_string(), ERROR_MAX)),
            "send one JSON object a line, such as {\"version\":1,\"request\":\"services\"}",
        )
    })
}

impl Arguments {
    /// Names that are not taken yet.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.take(name) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Number(number)) => Ok(Some(number)),
            Some(_) => Err(wrong(name, "a whole number from 0")),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a text")),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        match self.take(name) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(wrong(name, "a list of texts")),
        }
    }

    /// False when it is not given.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.take(name) {
            None | Some(Scalar::Null) => Ok(false),
            Some(Scalar::Flag(flag)) => Ok(flag),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        match named(&text, words) {
            Some(value) => Ok(Some(value)),
            None => Err(Refusal::new(
                format!("{name:?} is {:?}", shown(&text)),
                format!("it is one of: {}", all()),
            )),
        }
    }

    fn take(&mut self, name: &str) -> Option<Scalar> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(place).1)
    }
}

fn wrong(name: &str, what: &str) -> Refusal {
    Refusal { error: format!("argument {name:?} has a wrong value"), ..missing(name, what) }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Arguments;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Arguments, A::Error> {
        let mut arguments = Arguments::default();
        while let Some(name) = map.next_key::<String>()? {
            if arguments.0.len() == ARGUMENTS_MAX {
                return Err(A::Error::custom(format!("more than {ARGUMENTS_MAX} names")));
            }
            if arguments.names().any(|known| known == name) {
                return Err(A::Error::custom(format!("{:?} stands there twice", shown(&name))));
            }
            let value = map.next_value_seed(ScalarSeed)?;
            arguments.0.push((name, value));
        }
        Ok(arguments)
    }
}

struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a whole number, true, false or a list of texts")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            if texts.len() == TEXTS_MAX {
                return Err(A::Error::custom(format!("a list of more than {TEXTS_MAX} texts")));
            }
            texts.push(text);
        }
        Ok(Scalar::Texts(texts))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }
}
