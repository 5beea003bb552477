//! The schemas and examples in `schemas/`, and the document that lists the types of events, follow the code.
//! A schema only ever grows: whoever reads by the stored one can read what is written now.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use taskpost_common::{Event, event::OLDER_NAMES};

const RENEW: &str = "TASKPOST_RENEW=1 cargo test -p taskpost-common --test schemas";
/// What changes no value that fits, and what is compared by itself.
const APART: [&str; 8] =
    ["$schema", "$defs", "title", "description", "default", "examples", "properties", "required"];
/// What must stay, and is compared part by part.
const PARTS: [&str; 5] = ["enum", "oneOf", "anyOf", "items", "additionalProperties"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn schema(name: &str) -> Value {
    serde_json::to_value(Event::schema(name).unwrap()).unwrap()
}

/// The names of the JSON files of a folder, without their ending.
fn names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    files.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
}

fn types() -> BTreeSet<String> {
    Event::TYPES.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn each_type_has_its_schema_which_only_grows() {
    #[expect(clippy::disallowed_methods, reason = "whether to renew is for who runs this test to say")]
    let renews = std::env::var_os("TASKPOST_RENEW").is_some();
    let folder = root().join("schemas");
    let mut faults = Vec::new();
    for name in Event::TYPES {
        let (path, new) = (folder.join(format!("{name}.json")), schema(name));
        let stored: Option<Value> =
            fs::read_to_string(&path).ok().map(|text| serde_json::from_str(&text).unwrap());
        let lost = stored.as_ref().map(|stored| losses(stored, &new)).unwrap_or_default();
        if !lost.is_empty() {
            faults.push(format!("{name} may only be added to, but {}", lost.join("; ")));
        } else if stored.as_ref() != Some(&new) && renews {
            fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&new).unwrap())).unwrap();
        } else if stored.as_ref() != Some(&new) {
            faults.push(format!("{name}: schemas/{name}.json says something else; to renew it: {RENEW}"));
        }
    }
    let gone = names(&folder).difference(&types()).cloned().collect::<Vec<_>>();
    faults.extend(gone.iter().map(|name| format!("{name} was a type, and types are only added")));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_type_has_an_example_that_comes_back_as_it_was() {
    let folder = root().join("schemas/examples");
    assert_eq!(names(&folder), types());
    for name in Event::TYPES {
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let event = Event::decode(name, &text).unwrap();
        assert_eq!(event.type_name(), *name);
        let (given, back): (Value, Value) =
            (serde_json::from_str(&text).unwrap(), serde_json::from_str(&event.data().unwrap()).unwrap());
        assert_eq!(back, given, "{name}");
        let known = schema(name);
        for field in given.as_object().unwrap().keys() {
            assert!(known["properties"].get(field).is_some(), "{name}: the schema has no {field}");
        }
    }
}

#[test]
fn the_document_lists_every_type_and_every_older_name() {
    let document = fs::read_to_string(root().join("docs/events.md")).unwrap();
    for name in Event::TYPES {
        let topic = match name.split('.').next() {
            Some("comment") => "work or content".to_owned(),
            _ => Event::topic_of(name).unwrap().to_string(),
        };
        let row = format!("\n| `{name}` | {topic} | {} |", Event::meaning(name).unwrap());
        assert!(document.contains(&row), "docs/events.md has no row that begins{row}");
    }
    for (older, types) in OLDER_NAMES {
        let types: Vec<String> = types.iter().map(|name| format!("`{name}`")).collect();
        let row = format!("\n| {older} | {}", types.join(", "));
        assert!(document.contains(&row), "docs/events.md has no row that begins{row}");
    }
}

#[test]
fn only_what_is_added_passes() {
    let old = json!({
        "properties": {
            "id": {"type": "string"},
            "role": {"oneOf": [{"const": "a"}, {"const": "b"}]},
            "task": {"$ref": "#/$defs/Task"},
            "who": {"type": "array", "items": {"$ref": "#/$defs/Task"}},
            "word": {"enum": ["a", "b"]},
        },
        "required": ["id"],
        "$defs": {"Task": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    });
    let none: &[&str] = &[];
    for (place, value, expected) in [
        ("/properties/id", json!({"type": "string", "description": "x"}), none),
        ("/properties/role/oneOf", json!([{"const": "b"}, {"const": "c"}, {"const": "a"}]), none),
        ("/properties/word/enum", json!(["b", "c", "a"]), none),
        ("/$defs/Task/properties", json!({"n": {"type": "integer"}, "m": {"type": "string"}}), none),
        ("/required", json!([]), none),
        ("/properties/id", json!({"type": "integer"}), &["/id has another type"]),
        ("/properties/id", json!({"type": ["string", "null"]}), &["/id has another type"]),
        ("/properties/id", json!({"type": "string", "enum": ["a"]}), &["/id has another type"]),
        ("/properties/role/oneOf", json!([{"const": "b"}]), &["/role can no longer be {\"const\":\"a\"}"]),
        ("/properties/word/enum", json!(["b"]), &["/word can no longer be \"a\""]),
        (
            "/$defs/Task/properties/n/type",
            json!("string"),
            &["/task/n has another type", "/who/*/n has another type"],
        ),
        ("/$defs/Task/properties", json!({}), &["/task/n is gone", "/who/*/n is gone"]),
        ("/properties/who", json!({"type": "array"}), &["/who has another type"]),
        ("/required", json!(["id", "task"]), &["/task is newly required"]),
    ] {
        let mut new = old.clone();
        *new.pointer_mut(place).unwrap() = value.clone();
        assert_eq!(losses(&old, &new), expected, "{place} {value}");
    }
}

/// What `new` takes from those who read by `old`.
fn losses(old: &Value, new: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    compare(Part::of(old, old), Part::of(new, new), "", &mut lost);
    lost
}

/// A part of a schema, and the whole, in which its references lead.
#[derive(Clone, Copy)]
struct Part<'a> {
    whole: &'a Value,
    part: &'a Value,
}

impl<'a> Part<'a> {
    fn of(whole: &'a Value, mut part: &'a Value) -> Self {
        while let Some(reference) = part.get("$ref").and_then(Value::as_str) {
            part = whole.pointer(reference.trim_start_matches('#')).unwrap();
        }
        Self { whole, part }
    }

    fn child(self, key: &str) -> Option<Self> {
        self.part.get(key).map(|part| Self::of(self.whole, part))
    }

    fn properties(self) -> impl Iterator<Item = (&'a String, Self)> {
        let properties = self.part.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(move |(name, part)| (name, Self::of(self.whole, part)))
    }

    fn list(self, key: &str) -> &'a [Value] {
        self.part.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// What must be as it was.
    fn fixed(self) -> Map<String, Value> {
        let all = self.part.as_object().into_iter().flatten();
        all.filter(|(key, _)| !APART.contains(&key.as_str()))
            .map(|(key, value)| {
                let value = if PARTS.contains(&key.as_str()) { Value::Null } else { value.clone() };
                (key.clone(), value)
            })
            .collect()
    }
}

fn compare(old: Part<'_>, new: Part<'_>, at: &str, lost: &mut Vec<String>) {
    if old.fixed() != new.fixed() {
        lost.push(format!("{at} has another type"));
        return;
    }
    for (name, part) in old.properties() {
        let at = format!("{at}/{name}");
        match new.properties().find(|(other, _)| *other == name) {
            Some((_, new)) => compare(part, new, &at, lost),
            None => lost.push(format!("{at} is gone")),
        }
    }
    for name in new.list("required").iter().filter(|name| !old.list("required").contains(name)) {
        lost.push(format!("{at}/{} is newly required", name.as_str().unwrap()));
    }
    for word in old.list("enum").iter().filter(|word| !new.list("enum").contains(word)) {
        lost.push(format!("{at} can no longer be {word}"));
    }
    for key in ["oneOf", "anyOf"] {
        for branch in old.list(key) {
            let stays = |other: &Value| {
                let mut lost = Vec::new();
                compare(Part::of(old.whole, branch), Part::of(new.whole, other), "", &mut lost);
                lost.is_empty()
            };
            if !new.list(key).iter().any(stays) {
                lost.push(format!("{at} can no longer be {branch}"));
            }
        }
    }
    for key in ["items", "additionalProperties"] {
        if let (Some(old), Some(new)) = (old.child(key), new.child(key)) {
            compare(old, new, &format!("{at}/*"), lost);
        }
    }
}
