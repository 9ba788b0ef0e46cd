//! The client's file: contexts with endpoints, nodes and certificates, as talosctl writes and reads it.
//!
//! Keys that are not known here are kept. Where the file is and how it is written is decided in the binary.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Talosconfig {
    /// The context that is used; empty: none.
    #[serde(default)]
    pub context: String,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
    /// What another client keeps in it.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_yaml::Value>,
}

/// How to reach nodes that share a CA.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Addresses that are dialled.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Nodes that are meant when none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The CA's certificate, base64 of PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// The client's certificate, base64 of PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub crt: String,
    /// Its key, base64 of PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What another client keeps in it.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_yaml::Value>,
}

impl Talosconfig {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text).map_err(|error| format!("is no talosconfig: {error}"))
    }

    /// As it is written.
    ///
    /// # Errors
    /// What kept it from being YAML.
    pub fn to_text(&self) -> Result<String, String> {
        serde_yaml::to_string(self).map_err(|error| error.to_string())
    }

    /// The context of this name, or the current one.
    ///
    /// # Errors
    /// What to do when there is none.
    pub fn context(&self, name: Option<&str>) -> Result<(&str, &Context), String> {
        let known = || {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) }
        };
        let name = name.unwrap_or(&self.context);
        if name.is_empty() {
            return Err(format!("no context is chosen ({}); use podiumctl config context NAME", known()));
        }
        let found = self.contexts.get_key_value(name);
        found
            .map(|(name, context)| (name.as_str(), context))
            .ok_or_else(|| format!("there is no context {name:?} ({})", known()))
    }

    /// Takes all contexts of another file over; one whose name is taken gets a new name. The other's current context
    /// becomes the current one.
    ///
    /// Returns old and new name of those that were renamed.
    pub fn merge(&mut self, other: Self) -> Vec<(String, String)> {
        let mut renamed = Vec::new();
        let mut current = other.context;
        for (name, context) in other.contexts {
            if self.contexts.get(&name) == Some(&context) {
                continue;
            }
            let mut free = name.clone();
            let mut count = 1;
            while self.contexts.contains_key(&free) {
                free = format!("{name}-{count}");
                count += 1;
            }
            if free != name {
                if current == name {
                    current.clone_from(&free);
                }
                renamed.push((name, free.clone()));
            }
            self.contexts.insert(free, context);
        }
        if !current.is_empty() {
            self.context = current;
        }
        renamed
    }
}

impl Context {
    /// The CA's certificates, the client's certificate and its key as PEM; `None`: the context has none.
    ///
    /// # Errors
    /// Which of them is no base64 of text.
    pub fn pem(&self) -> Result<Credentials, String> {
        let read = |name: &str, text: &str| {
            if text.is_empty() {
                return Ok(None);
            }
            let bytes = STANDARD.decode(text.trim()).map_err(|_| format!("its {name} is no base64"))?;
            String::from_utf8(bytes).map(Some).map_err(|_| format!("its {name} is no base64 of PEM"))
        };
        Ok(Credentials {
            ca: read("ca", &self.ca)?,
            crt: read("crt", &self.crt)?,
            key: read("key", &self.key)?.map(|key| plain_label(&key)),
        })
    }
}

/// A context's certificates as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Who may sign a node's certificate.
    pub ca: Option<String>,
    /// Who the client is.
    pub crt: Option<String>,
    /// And its proof.
    pub key: Option<String>,
}

/// Never the key itself.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Credentials").field("ca", &self.ca).field("crt", &self.crt).finish_non_exhaustive()
    }
}

/// Talos labels a PKCS #8 key by its algorithm; libraries look for the plain label.
pub fn plain_label(pem: &str) -> String {
    pem.replace(" ED25519 PRIVATE KEY-----", " PRIVATE KEY-----")
}

/// Base64 as in these files.
pub fn encode(pem: &str) -> String {
    STANDARD.encode(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "context: a\ncontexts:\n  a:\n    endpoints:\n    - 10.0.0.2\n    ca: QUJD\n    auth:\n      siderov1: {}\n";

    #[test]
    fn a_file_is_written_as_it_was_read() {
        let file = Talosconfig::parse(FILE).unwrap();
        assert_eq!(Talosconfig::parse(&file.to_text().unwrap()).unwrap(), file);
        assert!(file.to_text().unwrap().contains("siderov1"));
        assert_eq!(Talosconfig::parse("").unwrap(), Talosconfig::default());
    }

    #[test]
    fn a_context_is_found_or_the_error_says_which_there_are() {
        let file = Talosconfig::parse(FILE).unwrap();
        assert_eq!(file.context(None).unwrap().0, "a");
        let error = file.context(Some("b")).unwrap_err();
        assert!(error.contains("\"b\"") && error.contains("it has a"), "{error}");
    }

    #[test]
    fn a_context_whose_name_is_taken_is_renamed_when_files_are_merged() {
        let mut file = Talosconfig::parse(FILE).unwrap();
        assert!(file.merge(file.clone()).is_empty(), "the same context twice is one");
        let mut other = file.clone();
        other.contexts.get_mut("a").unwrap().endpoints = vec!["10.0.0.3".into()];
        assert_eq!(file.merge(other), [("a".to_owned(), "a-1".to_owned())]);
        assert_eq!((file.contexts.len(), file.context.as_str()), (2, "a-1"));
    }

    #[test]
    fn keys_that_talos_made_are_read() {
        let pem = "-----BEGIN ED25519 PRIVATE KEY-----\nQQ==\n-----END ED25519 PRIVATE KEY-----\n";
        let context = Context { key: encode(pem), ..Context::default() };
        assert_eq!(
            context.pem().unwrap().key.as_deref(),
            Some("-----BEGIN PRIVATE KEY-----\nQQ==\n-----END PRIVATE KEY-----\n")
        );
        let wrong = Context { crt: "?".into(), ..Context::default() };
        assert!(wrong.pem().unwrap_err().contains("crt"));
    }
}
