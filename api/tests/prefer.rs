//! `Prefer: respond-async` as the document tells of it.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use serde_json::Value;
use taskpost_api::http::openapi;

fn operation(path: &str, method: &str) -> Value {
    serde_json::to_value(openapi()).unwrap()["paths"][path][method].clone()
}

fn parameter(operation: &Value, place: &str, name: &str) -> Option<Value> {
    let parameters = operation["parameters"].as_array().unwrap().iter();
    parameters.into_iter().find(|parameter| parameter["in"] == place && parameter["name"] == name).cloned()
}

#[test]
fn the_document_shows_the_preference_and_what_it_gives() {
    let create = operation("/v1/tasks", "post");
    let prefer = parameter(&create, "header", "Prefer").unwrap();
    assert_ne!(prefer["required"], true, "{prefer}");
    let accepted = &create["responses"]["202"];
    assert!(accepted["headers"]["Location"].is_object(), "{accepted}");
    assert!(accepted["headers"]["Preference-Applied"].is_object(), "{accepted}");
    let body = &accepted["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(body, "#/components/schemas/AcceptedTask");
    assert!(parameter(&operation("/v1/tasks/batch", "post"), "header", "Prefer").is_none());

    let show = operation("/v1/tasks/{id}", "get");
    assert!(parameter(&show, "query", "accepted").is_some());
    assert!(show["responses"]["202"]["headers"]["Retry-After"].is_object());
    let refused = &show["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(refused, "#/components/schemas/Problem");
}
