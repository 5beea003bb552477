//! The route table and the document say the same, and the document is whole.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use taskpost_api::http::{Access, Limit, TABLE, openapi};

fn document() -> Value {
    serde_json::to_value(openapi()).unwrap()
}

/// Every operation with its path and method.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (path.clone(), method.clone(), operation))
    });
    methods.collect()
}

#[test]
fn the_table_and_the_document_have_the_same_routes() {
    let document = document();
    let documented: BTreeSet<_> =
        operations(&document).into_iter().map(|(path, method, _)| (path, method)).collect();
    let listed: BTreeSet<_> =
        TABLE.iter().map(|row| (row.canonical(), row.method.as_str().to_lowercase())).collect();
    assert_eq!(documented, listed);
    assert_eq!(listed.len(), TABLE.len(), "a route stands twice in the table");
}

#[test]
fn every_operation_is_described() {
    let document = document();
    let tags: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} names two operations");
        assert!(
            operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
            "{method} {path} has no summary"
        );
        let own = operation["tags"].as_array().unwrap();
        assert!(
            !own.is_empty() && own.iter().all(|tag| tags.contains(tag.as_str().unwrap())),
            "{method} {path}"
        );
        let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
        assert!(
            statuses.iter().any(|status| status.starts_with(['2', '3'])),
            "{method} {path} has no good answer"
        );
    }
}

#[test]
fn access_and_limits_are_in_the_document() {
    let document = document();
    let operations: BTreeMap<_, _> = operations(&document)
        .into_iter()
        .map(|(path, method, operation)| ((path, method), operation))
        .collect();
    for row in TABLE {
        let operation = operations[&(row.canonical(), row.method.as_str().to_lowercase())];
        let named = operation.get("security").is_some_and(|security| security[0].get("bearer").is_some());
        assert_eq!(named, row.access != Access::Anyone, "{} {}", row.method, row.path);
        let responses = &operation["responses"];
        assert_eq!(responses.get("429").is_some(), row.limit != Limit::None, "{} {}", row.method, row.path);
        if row.access == Access::Admin {
            assert!(responses.get("403").is_some(), "{} {}", row.method, row.path);
        }
    }
}

#[test]
fn path_parameters_are_declared() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let wanted: BTreeSet<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let declared: BTreeSet<_> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(declared, wanted, "{method} {path}");
        let mut names = BTreeSet::new();
        for parameter in &parameters {
            assert!(
                names.insert((parameter["in"].to_string(), parameter["name"].to_string())),
                "{method} {path}"
            );
            assert!(parameter.get("schema").is_some(), "{method} {path}: {parameter}");
        }
    }
}

#[test]
fn references_lead_somewhere() {
    let document = document();
    assert_eq!(document["openapi"].as_str().unwrap().split('.').next(), Some("3"));
    let mut seen = 0;
    walk(&document, &mut |reference| {
        seen += 1;
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    });
    assert!(seen > 50, "only {seen} references");
}

fn walk(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found(reference);
            }
            fields.values().for_each(|value| walk(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
        _ => {}
    }
}

#[test]
fn the_tour_has_examples() {
    let document = document();
    for (schema, field) in [("Register", "email"), ("Login", "password"), ("CreateTask", "title")] {
        let example = &document["components"]["schemas"][schema]["properties"][field];
        assert!(example.get("example").or(example.get("examples")).is_some(), "{schema}.{field}: {example}");
    }
}

#[test]
fn what_follows_from_a_row_is_in_the_document() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        let parameters = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        let takes = |name: &str| {
            parameters.iter().any(|parameter| parameter["in"] == "header" && parameter["name"] == name)
        };
        let answers = |status: &str| responses.contains_key(status);
        assert!(answers("400") && answers("500") && answers("503"), "{method} {path}");
        assert_eq!(answers("409"), method != "get", "{method} {path}");
        assert_eq!(answers("412"), takes("If-Match"), "{method} {path}");
        assert_eq!(answers("304"), takes("If-None-Match"), "{method} {path}");
        assert!(answers("422") || !takes("Idempotency-Key"), "{method} {path}");
        for (status, response) in responses {
            let is_problem = response["content"]["application/problem+json"].is_object();
            assert!(is_problem || !status.starts_with(['4', '5']), "{method} {path} {status}");
            let header = match status.as_str() {
                "201" => "Location",
                "304" => "ETag",
                "401" => "WWW-Authenticate",
                "429" => "Retry-After",
                _ => continue,
            };
            assert!(response["headers"][header].is_object(), "{method} {path} {status}");
        }
    }
}

#[test]
fn a_header_is_never_null() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "header") {
            assert_eq!(parameter["schema"]["type"], "string", "{method} {path}: {parameter}");
            assert_eq!(parameter["required"], false, "{method} {path}: {parameter}");
        }
    }
}

#[test]
fn only_some_bodies_may_be_left_out() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let Some(body) = operation.get("requestBody") else { continue };
        let optional = path.ends_with("/watch") || path.ends_with("/redrive");
        assert_eq!(body["required"] == true, !optional, "{method} {path}");
    }
}

#[test]
fn a_whole_user_is_no_profile() {
    assert_eq!(document()["components"]["schemas"]["Profile"]["additionalProperties"], false);
}

#[test]
fn words_are_spelled_as_they_are_answered() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let words = schemas.values().filter_map(|schema| schema["enum"].as_array()).flatten();
    let mut words = words.filter_map(Value::as_str).peekable();
    assert!(words.peek().is_some());
    for word in words {
        assert!(!word.contains(char::is_uppercase), "{word}");
    }
}
