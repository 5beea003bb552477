//! Bodies that are wrong in one way each, whatever the document lets one say.

use serde_json::{Value, json};

use super::{
    Case,
    document::{Operation, Shape},
    fixture::Fixture,
};

/// A good body and where it goes.
struct Door<'a> {
    fixture: &'a Fixture<'a>,
    operation: Operation<'a>,
    address: String,
    good: Value,
}

/// What is wrong of every body that this operation reads, and of each property of its own.
pub(super) fn cases(fixture: &Fixture<'_>, operation: Operation<'_>) -> Vec<Case> {
    let Some(shape) = operation.body() else { return Vec::new() };
    let address = fixture.address(operation.path, None);
    let door = Door { fixture, operation, address, good: fixture.body(operation) };
    let mut cases = door.forms();
    cases.push(door.with("colour", &json!("red"), "/colour"));
    for (name, property) in shape.properties() {
        cases.push(door.twice(name, property));
        if shape.requires(name) {
            cases.push(door.without(name));
        }
        for (value, below) in wrong(property) {
            cases.push(door.with(name, &value, &format!("/{name}{below}")));
        }
    }
    cases
}

impl Door<'_> {
    /// What is no JSON, says that it is something else, or is no object.
    fn forms(&self) -> Vec<Case> {
        let good = self.good.to_string();
        let mut cases = vec![
            self.sent("cut off", "application/json", "{\"a\":", 400),
            self.sent("not JSON", "application/json", "title=a", 400),
            self.sent("with more behind it", "application/json", &format!("{good}{good}"), 400),
            self.sent("as text", "text/plain", &good, 415),
            self.sent("of no type", "", &good, 415),
        ];
        if self.operation.needs_body() {
            cases.push(self.sent("empty", "application/json", "", 400));
        }
        let list = format!("[{good}]");
        for other in ["null", "true", "5", "\"a\"", "[]", list.as_str()] {
            cases.push(self.sent(&format!("{other:.9}"), "application/json", other, 422).at(""));
        }
        cases
    }

    fn sent(&self, what: &str, content_type: &str, body: &str, status: u16) -> Case {
        let request = self.fixture.request(self.operation, &self.address);
        let request = request.body(content_type, body.to_owned());
        Case::new(self.operation, &format!("a body {what}"), request, status)
    }

    /// The good body with this value.
    fn with(&self, name: &str, value: &Value, pointer: &str) -> Case {
        let mut body = self.good.clone();
        body[name] = value.clone();
        self.invalid(&format!("{name} {:.40}", value.to_string()), &body.to_string(), pointer)
    }

    fn without(&self, name: &str) -> Case {
        let mut body = self.good.clone();
        let removed = body.as_object_mut().and_then(|fields| fields.remove(name));
        assert!(removed.is_some(), "{}: a good body has {name}", self.operation.name());
        self.invalid(&format!("no {name}"), &body.to_string(), &format!("/{name}"))
    }

    /// The same value two times.
    fn twice(&self, name: &str, shape: Shape<'_>) -> Case {
        let value = shape.sample();
        let body = format!("{{\"{name}\":{value},\"{name}\":{value}}}");
        self.invalid(&format!("{name} twice"), &body, &format!("/{name}"))
    }

    fn invalid(&self, what: &str, body: &str, pointer: &str) -> Case {
        self.sent(what, "application/json", body, 422).at(pointer)
    }
}

/// Values that a property must not have, and where inside of it the fault is.
fn wrong(shape: Shape<'_>) -> Vec<(Value, String)> {
    let here = String::new;
    let mut values: Vec<(Value, String)> = misfits(shape).into_iter().map(|value| (value, here())).collect();
    let letters = |count: usize| json!("a".repeat(count));
    if let Some(least) = shape.length("minLength") {
        values.push((letters(least - 1), here()));
    }
    if let Some(most) = shape.length("maxLength") {
        values.push((letters(most + 1), here()));
    }
    let number = |value: f64| serde_json::from_str::<Value>(&format!("{value:.0}")).expect("a number");
    values.extend(shape.bound("minimum").map(|least| (number(least - 1.0), here())));
    values.extend(shape.bound("maximum").map(|most| (number(most + 1.0), here())));
    if shape.is("integer") {
        values.extend([json!(1.5), json!(1e20)].map(|value| (value, here())));
    }
    let Some(items) = shape.items() else { return values };
    if let Some(least) = shape.length("minItems") {
        values.push((several(items, least - 1), here()));
    }
    if let Some(most) = shape.length("maxItems") {
        values.push((several(items, most + 1), here()));
    }
    // Objects in an array are tasks of a batch, which fail each alone.
    if !items.is("object") {
        values.extend(misfits(items).into_iter().map(|item| (json!([item]), "/0".to_owned())));
    }
    values
}

/// Values of all types that will not do, and texts that are not what a text must be.
fn misfits(shape: Shape<'_>) -> Vec<Value> {
    let all = [
        ("null", Value::Null),
        ("boolean", json!(true)),
        ("integer", json!(5)),
        ("string", json!("nonsense")),
        ("array", json!([])),
        ("object", json!({})),
    ];
    let fits = |kind: &str| shape.is(kind) && !(kind == "string" && shape.is_picky());
    let mut values: Vec<Value> =
        all.into_iter().filter(|(kind, _)| !fits(kind)).map(|(_, value)| value).collect();
    // A word is a word only by itself.
    values.extend(shape.words().iter().filter_map(Value::as_str).take(1).map(|word| json!({word: null})));
    values
}

/// So many values, each another one where they are texts.
fn several(items: Shape<'_>, count: usize) -> Value {
    let item = |i: usize| match items.sample() {
        Value::String(text) if !items.is_picky() => json!(format!("{text}{i}")),
        sample => sample,
    };
    (0..count).map(item).collect()
}
