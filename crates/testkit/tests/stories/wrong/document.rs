//! What the OpenAPI document says of requests.

use serde_json::{Value, json};
use taskpost_testkit::{Client, Fields as _};

use super::ABSENT;

/// The document, as it is served.
pub(super) struct Document(Value);

/// A method of an address.
#[derive(Clone, Copy)]
pub(super) struct Operation<'a> {
    /// In capitals.
    pub(super) method: &'a str,
    /// With its parameters in braces.
    pub(super) path: &'a str,
    document: &'a Document,
    described: &'a Value,
}

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    document: &'a Document,
    schema: &'a Value,
    nullable: bool,
}

impl Document {
    pub(super) async fn read(app: &Client) -> Self {
        Self(app.get("/openapi.json").expect(200).await.json())
    }

    pub(super) fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, methods) in self.0["paths"].as_object().into_iter().flatten() {
            for (method, described) in methods.as_object().into_iter().flatten() {
                operations.push(Operation { method: capitals(method), path, document: self, described });
            }
        }
        operations
    }

    fn find(&self, reference: &str) -> &Value {
        let found = self.0.pointer(reference.trim_start_matches('#'));
        found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }
}

fn capitals(method: &str) -> &'static str {
    match method {
        "get" => "GET",
        "post" => "POST",
        "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        other => panic!("the document has a method {other}"),
    }
}

impl<'a> Operation<'a> {
    pub(super) fn name(self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Its parameters in the `path`, the `query` or the `header`.
    pub(super) fn parameters(self, place: &str) -> Vec<(&'a str, Shape<'a>)> {
        let all = self.described["parameters"].as_array().into_iter().flatten();
        let here = all.filter(|parameter| parameter["in"] == place);
        let shape = |parameter: &'a Value| Shape::of(self.document, &parameter["schema"]);
        here.map(|parameter| (parameter.text("name"), shape(parameter))).collect()
    }

    /// Whether it has this parameter there.
    pub(super) fn takes(self, place: &str, name: &str) -> bool {
        self.parameters(place).iter().any(|(known, _)| *known == name)
    }

    /// What its body must be, if it reads one.
    pub(super) fn body(self) -> Option<Shape<'a>> {
        let forms = self.described["requestBody"]["content"].as_object()?;
        let form = forms.get("application/json").or_else(|| forms.values().next());
        form.map(|form| Shape::of(self.document, &form["schema"]))
    }

    /// Whether the body may not be left out.
    pub(super) fn needs_body(self) -> bool {
        self.described["requestBody"]["required"] == true
    }

    /// Whether the document says that this may be the answer.
    pub(super) fn answers(self, status: u16) -> bool {
        self.described["responses"].get(status.to_string()).is_some()
    }
}

impl<'a> Shape<'a> {
    /// What stands behind references and alternatives, of which null may be one.
    fn of(document: &'a Document, schema: &'a Value) -> Self {
        if let Some(reference) = schema["$ref"].as_str() {
            return Self::of(document, document.find(reference));
        }
        for list in ["oneOf", "anyOf", "allOf"] {
            let Some(items) = schema[list].as_array() else { continue };
            let is_null = |item: &&Value| item["type"] == "null";
            let others: Vec<&Value> = items.iter().filter(|item| !is_null(item)).collect();
            let [other] = others[..] else { panic!("what must be sent for {schema}?") };
            let shape = Self::of(document, other);
            return Self { nullable: shape.nullable || items.iter().any(|item| is_null(&item)), ..shape };
        }
        let nullable = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(|kind| kind == "null"),
            kind => kind == "null",
        };
        Self { document, schema, nullable }
    }

    /// Whether values of this JSON type will do.
    pub(super) fn is(self, kind: &str) -> bool {
        let fits = |known: &Value| known == kind || (known == "number" && kind == "integer");
        match &self.schema["type"] {
            _ if kind == "null" => self.nullable,
            Value::Array(kinds) => kinds.iter().any(fits),
            // Anything will do.
            Value::Null => true,
            known => fits(known),
        }
    }

    /// The words that will do, if only some do.
    pub(super) fn words(self) -> &'a [Value] {
        self.schema["enum"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether not any text will do: words, ids and times.
    pub(super) fn is_picky(self) -> bool {
        !self.words().is_empty() || ["uuid", "date-time"].contains(&self.format())
    }

    fn format(self) -> &'a str {
        self.schema["format"].as_str().unwrap_or_default()
    }

    /// A bound of numbers.
    pub(super) fn bound(self, name: &str) -> Option<f64> {
        self.schema[name].as_f64()
    }

    /// A bound of lengths.
    pub(super) fn length(self, name: &str) -> Option<usize> {
        self.schema[name].as_u64().and_then(|length| usize::try_from(length).ok())
    }

    /// What the items of an array must be.
    pub(super) fn items(self) -> Option<Self> {
        self.schema.get("items").map(|items| Self::of(self.document, items))
    }

    pub(super) fn properties(self) -> Vec<(&'a str, Self)> {
        let all = self.schema["properties"].as_object().into_iter().flatten();
        all.map(|(name, schema)| (name.as_str(), Self::of(self.document, schema))).collect()
    }

    pub(super) fn requires(self, name: &str) -> bool {
        self.schema["required"].as_array().into_iter().flatten().any(|required| required == name)
    }

    /// Whether it is an object of the properties it names, and no others.
    pub(super) fn is_closed(self) -> bool {
        self.is("object") && !self.properties().is_empty() && self.schema["additionalProperties"] == false
    }

    /// A value of the right form.
    pub(super) fn sample(self) -> Value {
        if let Some(word) = self.words().first() {
            return word.clone();
        }
        match self.format() {
            "uuid" => json!(ABSENT),
            "date-time" => json!("2030-01-01T00:00:00Z"),
            _ if self.is("string") => json!("a"),
            _ if self.is("integer") => json!(1),
            _ if self.is("boolean") => json!(true),
            _ if self.is("array") => json!([]),
            _ => {
                let needed = self.properties().into_iter().filter(|(name, _)| self.requires(name));
                needed.map(|(name, shape)| (name.to_owned(), shape.sample())).collect()
            }
        }
    }
}
