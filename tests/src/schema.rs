//! The fields of Kubernetes' types, as `k8s-openapi` has them: a type is decoded from nothing, and what it asks for on
//! the way is noted.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, Visitor};
use serde_json::{Value, json};
use std::cell::RefCell;

/// A field, however deep: `spec.containers[].ports[].hostPort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its path; `[]` is an item of a list, `{}` a value of a map.
    pub path: String,
    /// A value of its type.
    pub sample: Value,
}

/// Every field of the `T` at `path` that has no fields itself, in the order of the type's own.
///
/// # Errors
/// `T` asks for something that no type of Kubernetes has.
pub fn leaves<'de, T: Deserialize<'de>>(path: &str) -> anyhow::Result<Vec<Leaf>> {
    let found = RefCell::default();
    T::deserialize(Asked { path: path.to_owned(), found: &found })?;
    Ok(found.into_inner())
}

/// What is asked for at a path.
struct Asked<'f> {
    path: String,
    found: &'f RefCell<Vec<Leaf>>,
}

impl Asked<'_> {
    fn is(self, sample: Value) {
        self.found.borrow_mut().push(Leaf { path: self.path, sample });
    }

    fn below(&self, key: &str) -> Self {
        let dot = if key.starts_with(['[', '{']) { "" } else { "." };
        Self { path: format!("{}{dot}{key}", self.path), found: self.found }
    }
}

impl<'de> de::Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.is(json!("x"));
        visitor.visit_str("x")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.is(json!(true));
        visitor.visit_bool(true)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.is(json!(7));
        visitor.visit_i64(7)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Once { asked: Some(self.below("[]")) })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { of: self, fields: ["{}"].iter(), asked: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { of: self, fields: fields.iter(), asked: None })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            "Quantity" => {
                self.is(json!("7"));
                visitor.visit_string("7".to_owned())
            }
            "Time" | "MicroTime" => {
                self.is(json!("2026-01-31T12:00:00Z"));
                visitor.visit_newtype_struct(StrDeserializer::new("2026-01-31T12:00:00Z"))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        enum identifier ignored_any
    }
}

/// The one item of a list.
struct Once<'f> {
    asked: Option<Asked<'f>>,
}

impl<'de> de::SeqAccess<'de> for Once<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.asked.take().map(|asked| seed.deserialize(asked)).transpose()
    }
}

/// Each field of a struct, or the one key of a map.
struct Fields<'f> {
    of: Asked<'f>,
    fields: std::slice::Iter<'static, &'static str>,
    asked: Option<&'static str>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.asked = self.fields.next().copied();
        let key = |field| seed.deserialize(IntoDeserializer::<Error>::into_deserializer(field));
        self.asked.map(key).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.of.below(self.asked.unwrap_or_default()))
    }
}

impl Leaf {
    /// An object that has this one alone, with all that it stands in.
    #[must_use]
    pub fn alone(&self) -> Value {
        let steps: Vec<&str> = self.path.split('.').collect();
        steps.into_iter().rev().fold(self.sample.clone(), |value, step| {
            let name = step.trim_end_matches(['[', ']', '{', '}']);
            let around = |value, mark: &str| if mark == "[]" { json!([value]) } else { json!({"x": value}) };
            let marks = step.as_bytes()[name.len()..].chunks(2).rev();
            let value =
                marks.fold(value, |value, mark| around(value, std::str::from_utf8(mark).unwrap_or("")));
            json!({name: value})
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    #[test]
    fn fields_are_found_however_deep_they_are() {
        let leaves = leaves::<PodSpec>("spec").unwrap();
        let of = |path: &str| {
            let found = leaves.iter().find(|leaf| leaf.path == path);
            found.unwrap_or_else(|| panic!("no {path}")).alone()
        };
        assert_eq!(of("spec.hostNetwork"), json!({"spec": {"hostNetwork": true}}));
        assert_eq!(
            of("spec.containers[].resources.limits{}"),
            json!({"spec": {"containers": [{"resources": {"limits": {"x": "7"}}}]}})
        );
        assert_eq!(
            of("spec.containers[].env[].valueFrom.fieldRef.fieldPath"),
            json!({"spec": {"containers": [{"env": [{"valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}]}})
        );
        assert!(leaves.len() > 800, "{}", leaves.len());
    }
}
