//! What schemathesis is told: who asks, what is checked, and which ids there are.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::client::Client;
use super::document::Document;

/// How many ids of one kind are told.
const MOST: usize = 50;

/// Whatever one of these objects to is a finding. Of a batch it is not asked that a wrong value is refused: each task
/// fails alone.
const CHECKS: &str = r#"
[cache]
enabled = false

[checks]
enabled = false
[checks.not_a_server_error]
enabled = true
expected-statuses = ["2xx", "3xx", "4xx", "503"]
[checks.status_code_conformance]
enabled = true
[checks.content_type_conformance]
enabled = true
[checks.response_schema_conformance]
enabled = true
[checks.negative_data_rejection]
enabled = true
expected-statuses = ["4xx", "5xx"]

[[operations]]
include-path = "/v1/tasks/batch"
[operations.checks.negative_data_rejection]
enabled = false
"#;

/// Words that the demo's projects know. Webhooks go nowhere: no resolver knows these names, and the one port that is
/// allowed is nobody's.
const WORDS: [&str; 8] = ["todo", "in_progress", "in_review", "done", "cancelled", "task", "bug", "wont_do"];
const URLS: [&str; 2] = ["https://hooks.invalid:9/taskpost", "http://other.hooks.invalid:9/a?b=c"];

/// Where what is known goes, besides the first id of a path. Half of the values there stay made up.
const PLACES: [(&str, &str); 12] = [
    ("path.user_id", "/v1/users"),
    ("path.name", "words"),
    ("query.project_id", "/v1/projects"),
    ("query.assignee_id", "/v1/users"),
    ("query.status", "words"),
    ("body.project_id", "/v1/projects"),
    ("body.assignee_id", "/v1/users"),
    ("body.user_id", "/v1/users"),
    ("body.to", "words"),
    ("body.resolution", "words"),
    ("body.type", "words"),
    ("body.url", "urls"),
];

/// The ids of what there is, by the path that lists it.
#[derive(Default)]
pub struct Known(BTreeMap<String, Vec<String>>);

impl Known {
    /// What the owner of a token may see, but for itself where `others` are asked for.
    pub fn of(client: &Client, document: &Document, token: &str, others: bool) -> Result<Self> {
        let me = client.get("/v1/me", Some(token))?.json()?["id"].clone();
        let mut known = BTreeMap::new();
        for list in document.by_list().into_keys() {
            let answer = client.get(&format!("{list}?limit={MOST}"), Some(token))?;
            // Some lists are for admins.
            if answer.status == 200 {
                known.insert(list, names(&answer.json()?, &me, others));
            }
        }
        Ok(Self(known))
    }

    fn all(self) -> BTreeMap<String, Vec<String>> {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let constant = [("words".to_owned(), owned(&WORDS)), ("urls".to_owned(), owned(&URLS))];
        self.0.into_iter().chain(constant).filter(|(_, values)| !values.is_empty()).collect()
    }
}

/// The ids in a list, and the keys of those that may be called by them.
fn names(list: &Value, me: &Value, others: bool) -> Vec<String> {
    let items = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = items.iter().filter(|item| !others || item["id"] != *me);
    // Only tasks have a reporter: a project's key is no name of it.
    let both = |item: &Value| {
        let key = item["reporter_id"].is_string().then(|| item["key"].clone());
        [Some(item["id"].clone()), key].into_iter().flatten()
    };
    wanted.flat_map(both).filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The settings, as TOML. Whoever is logged out, or whose token ends, logs in again and asks once more.
pub fn text(account: Option<(&str, &str)>, document: &Document, known: Known) -> String {
    let mut text = "[auth]\nauto-signup = false\n".to_owned();
    if let Some((email, password)) = account {
        let (email, password) = (json!(email), json!(password));
        text += "[auth.dynamic.openapi.bearer]\npath = \"/v1/auth/login\"\n";
        text += "extract_selector = \"/access_token\"\n";
        write(&mut text, format_args!("payload = {{ email = {email}, password = {password} }}\n"));
    }
    text += CHECKS;
    let known = known.all();
    for (name, values) in &known {
        write(&mut text, format_args!("\n[dictionaries.{}]\nvalues = {}\n", json!(name), json!(values)));
    }
    text += "\n[parameters]\n";
    for (place, name) in PLACES.into_iter().filter(|(_, name)| known.contains_key(*name)) {
        text += &binding(place, name);
    }
    for (list, paths) in document.by_list().into_iter().filter(|(list, _)| known.contains_key(list)) {
        write(&mut text, format_args!("\n[[operations]]\ninclude-path = {}\n", json!(paths)));
        text += "[operations.parameters]\n";
        text += &binding("path.id", &list);
    }
    text
}

fn binding(place: &str, name: &str) -> String {
    format!("{} = {{ dictionary = {}, probability = 0.5 }}\n", json!(place), json!(name))
}

fn write(text: &mut String, more: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_two_names_and_one_may_be_left_out() {
        let task = json!({"id": "a", "key": "OPS-1", "reporter_id": "r"});
        let list = json!({"data": [task, {"id": "b", "key": "OPS"}]});
        assert_eq!(names(&list, &json!("b"), false), ["a", "OPS-1", "b"]);
        assert_eq!(names(&list, &json!("b"), true), ["a", "OPS-1"]);
        assert!(names(&json!({}), &json!("b"), true).is_empty());
    }

    #[test]
    fn only_what_there_is_is_told() {
        let document = Document::read(
            r#"{"paths": {
                "/v1/tasks": {"get": {}}, "/v1/tasks/{id}": {"get": {}}, "/v1/tasks/{id}/watch": {"put": {}},
                "/v1/webhooks": {"get": {}}, "/v1/webhooks/{id}": {"get": {}}
            }}"#,
        )
        .unwrap();
        let known = BTreeMap::from([
            ("/v1/tasks".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("/v1/webhooks".to_owned(), Vec::new()),
        ]);
        let told = text(Some(("fuzz@a.example", "p\"w")), &document, Known(known));
        for line in [
            "payload = { email = \"fuzz@a.example\", password = \"p\\\"w\" }",
            "[dictionaries.\"/v1/tasks\"]",
            "values = [\"a\",\"b\"]",
            "include-path = [\"/v1/tasks/{id}\",\"/v1/tasks/{id}/watch\"]",
            "\"path.id\" = { dictionary = \"/v1/tasks\", probability = 0.5 }",
            "\"body.url\" = { dictionary = \"urls\", probability = 0.5 }",
        ] {
            assert!(told.lines().any(|said| said == line), "{line}\n{told}");
        }
        assert!(!told.contains("/v1/webhooks") && !told.contains("body.project_id"), "{told}");
        assert!(!text(None, &document, Known::default()).contains("dynamic"));
    }
}
