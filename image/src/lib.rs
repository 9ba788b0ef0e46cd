//! From an image definition to bytes.
