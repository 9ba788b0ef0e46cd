//! A strict reading of JSON values: every misspelt field and every wrong type of a pod, with its path, in one pass.
//!
//! serde's decoders stop at the first error and skip what they do not know. [`Strict`] is a deserializer over a
//! [`Value`] that does neither: a struct tells its legal fields by `deserialize_struct`, so an unknown one is found;
//! a value of the wrong type is reported and an empty one is handed on in its place, so that the pass goes on. It
//! changes no value; where Kubernetes takes a number for a quantity, the text that stands for it is noted in
//! [`Reading::quantities`].

use super::path::{Findings, Path};
use super::quantity;
use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// What a pass gathers.
pub(super) struct Reading<'l> {
    /// What is wrong.
    pub(super) findings: Findings<'l>,
    /// Quantities that were written as numbers: JSON pointer below the pod, and the text that they become.
    pub(super) quantities: Vec<(String, String)>,
    /// A value had the wrong type: what was read holds stand-ins, and looking at it further would mislead.
    pub(super) stand_ins: bool,
}

/// Reads a `T` out of `value`, which stands at `at`. `None` when something could not even be stood in for; like
/// everything else that is wrong it is then among the findings.
pub(super) fn read<'de, T: Deserialize<'de>>(
    value: &'de Value,
    at: &Path<'_>,
    reading: &mut Reading<'_>,
) -> Option<T> {
    let result = T::deserialize(Strict { value, at, reading });
    result.map_err(|error| tell(error, at, reading)).ok()
}

const TEXT: &str = "a string";
const WHOLE: &str = "a whole number";
const BOOL: &str = "true or false";
const LIST: &str = "a list";

/// A value with its place.
struct Strict<'de, 'a, 'l> {
    value: &'de Value,
    at: &'a Path<'a>,
    reading: &'a mut Reading<'l>,
}

impl<'de> Strict<'de, '_, '_> {
    /// Reports that something else should stand here.
    #[inline(never)]
    fn wrong(&mut self, wanted: &str) {
        self.reading.stand_ins = true;
        let message = format!("expected {wanted}, found {}", describe(self.value));
        let remedy = match (wanted, self.value) {
            (TEXT, Value::Bool(_) | Value::Number(_)) => format!("put it in quotes: \"{}\"", self.value),
            (WHOLE, Value::String(text)) if text.parse::<i64>().is_ok() => {
                format!("leave the quotes out: {text}")
            }
            (BOOL, Value::String(text)) if matches!(text.as_str(), "true" | "false") => {
                format!("leave the quotes out: {text}")
            }
            (BOOL, Value::String(text)) if matches!(text.as_str(), "yes" | "no" | "on" | "off") => {
                "write true or false".to_owned()
            }
            (LIST, Value::Object(_) | Value::String(_)) => "begin each item with a dash".to_owned(),
            _ => return self.reading.findings.error(self.at, message),
        };
        self.reading.findings.error_with(self.at, message, remedy);
    }

    /// The entries of a map; when `fields` are given, those alone are legal.
    fn visit_entries<V: Visitor<'de>>(
        mut self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = self.entries(fields.is_some());
        visitor.visit_map(Entries { entries, fields, next: None, at: self.at, reading: self.reading })
    }

    fn visit_items<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let items = self.items();
        visitor.visit_seq(Items { items, index: 0, at: self.at, reading: self.reading })
    }

    // What follows is compiled once and not into each of the hundreds of decoders: half of what they weigh.

    #[inline(never)]
    fn entries(&mut self, is_struct: bool) -> MapIter<'de> {
        let entries = self.value.as_object().map(Map::iter);
        if entries.is_none() {
            self.wrong(if is_struct { "a map of fields" } else { "a map" });
        }
        entries.into_iter().flatten()
    }

    #[inline(never)]
    fn items(&mut self) -> std::slice::Iter<'de, Value> {
        let items = self.value.as_array();
        if items.is_none() {
            self.wrong(LIST);
        }
        items.map_or([].iter(), |items| items.iter())
    }

    #[inline(never)]
    fn whole(&mut self, low: i64, high: i64) -> i64 {
        match self.value.as_i64() {
            Some(number) if (low..=high).contains(&number) => return number,
            Some(_) => self.wrong(&format!("a whole number from {low} to {high}")),
            None => self.wrong(WHOLE),
        }
        0
    }

    #[inline(never)]
    fn flag(&mut self) -> bool {
        if !self.value.is_boolean() {
            self.wrong(BOOL);
        }
        self.value == &Value::Bool(true)
    }

    #[inline(never)]
    fn text(&mut self) -> &'de str {
        if !self.value.is_string() {
            self.wrong(TEXT);
        }
        self.value.as_str().unwrap_or_default()
    }

    /// A `Quantity`: text, or a number, which becomes text.
    #[inline(never)]
    fn quantity(&mut self) -> String {
        let text = match self.value {
            Value::String(text) => text.clone(),
            Value::Number(number) => {
                let text = quantity::from_number(number);
                self.reading.quantities.push((self.at.pointer(), text.clone()));
                text
            }
            _ => {
                self.wrong("a quantity");
                return "0".to_owned();
            }
        };
        if quantity::parse(&text).is_none() {
            let message = format!("{text:?} is not a quantity");
            let remedy = "write a number, with a suffix if needed: 500m, 2, 128Mi, 1G";
            self.reading.findings.error_with(self.at, message, remedy);
        }
        text
    }
}

impl<'de> de::Deserializer<'de> for Strict<'de, '_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_i64(number),
                (_, Some(number), _) => visitor.visit_u64(number),
                (_, _, number) => visitor.visit_f64(number.unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.visit_items(visitor),
            Value::Object(_) => self.visit_entries(None, visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.flag())
    }

    fn deserialize_i32<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.whole(i32::MIN.into(), i32::MAX.into()))
    }

    fn deserialize_i64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.whole(i64::MIN, i64::MAX))
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_items(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_entries(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit_entries(Some(fields), visitor)
    }

    // Inlined, so that the name is a constant and what is never reached for it is not compiled.
    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            "Quantity" => visitor.visit_string(self.quantity()),
            // Only in objects that the API server fills in. What parses times is not worth its weight for them.
            "Time" | "MicroTime" => {
                self.reading.findings.error(self.at, "a time is the API server's to set");
                Err(Error { untold: None })
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier
    }
}

type MapIter<'de> = std::iter::Flatten<std::option::IntoIter<serde_json::map::Iter<'de>>>;

/// The entries of a map or of a struct.
struct Entries<'de, 'a, 'l> {
    entries: MapIter<'de>,
    fields: Option<&'static [&'static str]>,
    next: Option<(&'de str, &'de Value)>,
    at: &'a Path<'a>,
    reading: &'a mut Reading<'l>,
}

impl<'de> Entries<'de, '_, '_> {
    /// The next key that is legal here.
    #[inline(never)]
    fn advance(&mut self) -> Option<&'de str> {
        for (key, value) in self.entries.by_ref() {
            if let Some(fields) = self.fields
                && !fields.contains(&key.as_str())
            {
                let near = self.reading.findings.did_you_mean(key, fields.iter().copied());
                self.reading.findings.error(&self.at.key(key), format!("unknown field{near}"));
                continue;
            }
            self.next = Some((key, value));
            return Some(key);
        }
        self.next = None;
        None
    }
}

impl<'de> de::MapAccess<'de> for Entries<'de, '_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(key) = self.advance() else { return Ok(None) };
        let name: StrDeserializer<'de, Error> = key.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        // Nobody asks for a value before its key; were it so, it would be an empty one.
        let (key, value) = self.next.unwrap_or(("", &Value::Null));
        let at = &self.at.key(key);
        let result = seed.deserialize(Strict { value, at, reading: self.reading });
        result.map_err(|error| tell(error, at, self.reading))
    }
}

/// The items of a list.
struct Items<'de, 'a, 'l> {
    items: std::slice::Iter<'de, Value>,
    index: usize,
    at: &'a Path<'a>,
    reading: &'a mut Reading<'l>,
}

impl<'de> de::SeqAccess<'de> for Items<'de, '_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(value) = self.items.next() else {
            return Ok(None);
        };
        let at = &self.at.index(self.index);
        self.index += 1;
        let result = seed.deserialize(Strict { value, at, reading: self.reading });
        result.map(Some).map_err(|error| tell(error, at, self.reading))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// What ends a pass: a decoder's own objection, until it is told at the innermost place that it passes. One pointer
/// wide, as every decoder hands it on.
#[derive(Debug)]
struct Error {
    #[expect(clippy::box_collection, reason = "a thin pointer")]
    untold: Option<Box<String>>,
}

#[inline(never)]
fn tell(error: Error, at: &Path<'_>, reading: &mut Reading<'_>) -> Error {
    if let Some(message) = error.untold {
        reading.findings.error(at, *message);
    }
    Error { untold: None }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error { untold: Some(Box::new(message.to_string())) }
    }

    fn invalid_type(found: de::Unexpected<'_>, wanted: &dyn de::Expected) -> Self {
        de::Error::custom(format!("expected {wanted}, found {found}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.untold.as_ref().map_or("told", |message| message.as_str()))
    }
}

impl std::error::Error for Error {}

/// A value in words.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing (null)".to_owned(),
        Value::Bool(value) => format!("{value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.len() <= 40 => format!("the string {text:?}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}
