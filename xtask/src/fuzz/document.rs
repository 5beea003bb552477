//! What of the OpenAPI document matters here: its operations, and where the ids in their paths are listed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The operations of an OpenAPI document.
#[derive(Deserialize)]
pub struct Document {
    paths: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
}

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

impl Document {
    /// Reads it.
    pub fn read(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("the OpenAPI document cannot be read")
    }

    /// Every operation as the product counts it: without the version.
    pub fn operations(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (path, item) in &self.paths {
            let route = path.strip_prefix("/v1").unwrap_or(path);
            let methods = item.keys().filter(|method| METHODS.contains(&method.as_str()));
            found.extend(methods.map(|method| format!("{} {route}", method.to_uppercase())));
        }
        found
    }

    /// The paths that begin with a thing's id, by the path that lists such things.
    pub fn by_list(&self) -> BTreeMap<String, Vec<&str>> {
        let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for path in self.paths.keys() {
            let Some((front, _)) = path.split_once("/{id}") else { continue };
            // What a view shows is listed where it is kept.
            let list = front.replacen("/views", "", 1);
            if self.paths.get(&list).is_some_and(|item| item.contains_key("get")) {
                found.entry(list).or_default().push(path);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_listed_where_their_things_are() {
        let document = Document::read(
            r#"{"openapi": "3.1.0", "paths": {
                "/health": {"get": {}},
                "/v1/tasks": {"get": {}, "post": {}, "summary": "x"},
                "/v1/tasks/{id}": {"patch": {}},
                "/v1/tasks/{id}/watch": {"put": {}},
                "/v1/projects": {"get": {}},
                "/v1/views/projects/{id}/board": {"get": {}},
                "/v1/comments/{id}": {"get": {}}
            }}"#,
        )
        .unwrap();
        let operations = document.operations();
        assert_eq!(operations.len(), 8);
        assert!(operations.contains("PATCH /tasks/{id}") && operations.contains("GET /health"));
        let lists = document.by_list();
        assert_eq!(lists.len(), 2);
        assert_eq!(lists["/v1/tasks"], ["/v1/tasks/{id}", "/v1/tasks/{id}/watch"]);
        assert_eq!(lists["/v1/projects"], ["/v1/views/projects/{id}/board"]);
    }
}
