//! Reading JSON in tests: a field that is not as expected stops the test with the whole value.

use serde_json::Value;

/// Fields of a JSON object, by name.
pub trait Fields {
    /// A text.
    fn text(&self, name: &str) -> &str;
    /// A whole number.
    fn int(&self, name: &str) -> i64;
    /// An array.
    fn list(&self, name: &str) -> &[Value];
    /// The same text of each item of an array.
    fn texts(&self, list: &str, name: &str) -> Vec<String>;
}

impl Fields for Value {
    fn text(&self, name: &str) -> &str {
        self[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {self:#}"))
    }

    fn int(&self, name: &str) -> i64 {
        self[name].as_i64().unwrap_or_else(|| panic!("no whole number `{name}` in {self:#}"))
    }

    fn list(&self, name: &str) -> &[Self] {
        self[name].as_array().unwrap_or_else(|| panic!("no array `{name}` in {self:#}"))
    }

    fn texts(&self, list: &str, name: &str) -> Vec<String> {
        self.list(list).iter().map(|item| item.text(name).to_owned()).collect()
    }
}
