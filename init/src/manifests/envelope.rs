//! A pod's outermost layer: `metadata` read by what matters in a manifest, `spec` as k8s-openapi has it.
//!
//! k8s-openapi's own `Pod` would do, but for its weight: what only the API server writes (the status, times,
//! `managedFields`) never reaches a manifest, and its decoders are 200 KiB of PID 1. The names of the fields are
//! those of k8s-openapi; a test compares them.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// A pod, `v1`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "what is never looked at is still a legal field of a legal type")]
pub(super) struct Pod {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<Metadata>,
    /// `spec`.
    pub(super) spec: Option<PodSpec>,
    status: Option<IgnoredAny>,
}

/// `metadata`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "what is never looked at is still a legal field of a legal type")]
pub(super) struct Metadata {
    /// `metadata.annotations`.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<IgnoredAny>,
    deletion_grace_period_seconds: Option<IgnoredAny>,
    deletion_timestamp: Option<IgnoredAny>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<IgnoredAny>,
    /// `metadata.labels`.
    pub(super) labels: Option<BTreeMap<String, String>>,
    managed_fields: Option<IgnoredAny>,
    name: Option<String>,
    namespace: Option<String>,
    /// `metadata.ownerReferences`.
    pub(super) owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<IgnoredAny>,
    self_link: Option<IgnoredAny>,
    uid: Option<IgnoredAny>,
}

impl Pod {
    /// `metadata`, if it is there.
    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde::de::value::Error;
    use serde::de::{self, Visitor};

    /// A deserializer that gives nothing but learns a struct's fields.
    struct Fields<'a>(&'a mut Vec<&'static str>);

    impl<'de> de::Deserializer<'de> for Fields<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(de::Error::custom("no struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            self.0.extend(fields);
            self.0.sort_unstable();
            Err(de::Error::custom("enough"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn fields<T: for<'de> Deserialize<'de>>() -> Vec<&'static str> {
        let mut fields = Vec::new();
        assert!(T::deserialize(Fields(&mut fields)).is_err());
        fields
    }

    #[test]
    fn the_fields_are_those_of_k8s_openapi() {
        assert_eq!(fields::<Pod>(), fields::<k8s_openapi::api::core::v1::Pod>());
        assert_eq!(fields::<Metadata>(), fields::<ObjectMeta>());
    }
}
