//! JSON bodies: read once and fast, and only when that fails again, to say what is wrong and where.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use taskpost_common::problem::{Code, FieldError};

use super::{
    fault::Fault,
    problem::{ApiError, Result},
};

/// Reads an object. What is not JSON is 400; what is JSON but does not fit is 422 and named by its pointer.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // A derived struct would also be read from an array, by the order of its fields.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(explain::<Anything>(bytes));
    }
    serde_json::from_slice(bytes).map_err(|_| explain::<T>(bytes))
}

fn explain<T: DeserializeOwned>(bytes: &[u8]) -> ApiError {
    if bytes.trim_ascii_start().is_empty() {
        return ApiError::bad_request("a JSON body is required");
    }
    if let Err(error) = serde_json::from_slice::<Anything>(bytes) {
        return ApiError::bad_request(format!("the body is not JSON in UTF-8: {error}"));
    }
    let fault =
        match serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(bytes)) {
            Err(error) => Fault::of(&error),
            Ok(_) => Fault { path: Vec::new(), code: "wrong_type", detail: "must be an object".to_owned() },
        };
    ApiError::at(Code::Invalid, FieldError::new(fault.pointer(), fault.code, fault.detail))
}

/// Any JSON, looked at and forgotten. Unlike `IgnoredAny` it decodes every text and keeps serde_json's limit of depth.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use taskpost_tracker::CreateTask;

    use super::*;

    fn refusal(body: impl AsRef<[u8]>) -> (u16, String, String, String) {
        let problem = parse::<CreateTask>(body.as_ref()).map(drop).unwrap_err().problem();
        let error = problem.errors.into_iter().next().unwrap_or_else(|| FieldError::new("", "", ""));
        (problem.status, error.pointer, error.code, error.detail)
    }

    #[test]
    fn what_is_not_json_is_400() {
        let deep = format!("{{\"title\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let bad: [&[u8]; 16] = [
            b"",
            b"  ",
            b"{\"title\":\"a\"",
            b"{\"title\":\"a\"} x",
            b"{\"title\":NaN}",
            b"{\"title\":1e999}",
            b"{\"title\":\"\\ud800\"}",
            b"{\"title\":\"\xff\"}",
            b"{\"titl\xff\":1}",
            b"\xef\xbb\xbf{\"title\":\"a\"}",
            b"{\"titel\":tru}",
            b"{'title':'a'}",
            b"{\"title\":\"a\",}",
            b"{\"title\":\"a\nb\"}",
            b"nul",
            deep.as_bytes(),
        ];
        for body in bad {
            assert_eq!(refusal(body).0, 400, "{}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        }
    }

    #[test]
    fn what_does_not_fit_is_422_with_its_place() {
        for (body, pointer, code) in [
            ("[]", "", "wrong_type"),
            ("[\"a title\"]", "", "wrong_type"),
            ("\"a\"", "", "wrong_type"),
            ("null", "", "wrong_type"),
            ("{}", "/title", "missing_field"),
            ("{\"title\":5}", "/title", "wrong_type"),
            ("{\"title\":null}", "/title", "wrong_type"),
            ("{\"title\":\"a\",\"title\":\"b\"}", "/title", "duplicate_field"),
            ("{\"title\":\"a\",\"id\":\"b\"}", "/id", "unknown_field"),
            ("{\"title\":\"a\",\"a/b~c\":1}", "/a~1b~0c", "unknown_field"),
            ("{\"title\":\"a\",\"priority\":\"most\"}", "/priority", "invalid_value"),
            ("{\"title\":\"a\",\"priority\":1}", "/priority", "wrong_type"),
            ("{\"title\":\"a\",\"assignee_id\":\"me\"}", "/assignee_id", "invalid_value"),
            ("{\"title\":\"a\",\"due_at\":\"tomorrow\"}", "/due_at", "invalid_value"),
            ("{\"title\":\"a\",\"labels\":{}}", "/labels", "wrong_type"),
            ("{\"title\":\"a\",\"labels\":[\"b\",3]}", "/labels/1", "wrong_type"),
        ] {
            let (status, at, what, detail) = refusal(body);
            assert_eq!((status, at.as_str(), what.as_str()), (422, pointer, code), "{body}: {detail}");
        }
    }

    #[test]
    fn details_are_for_people_and_keep_what_was_sent_to_themselves() {
        assert_eq!(refusal("{\"title\":5}").3, "must be a string");
        assert_eq!(refusal("{\"title\":\"a\",\"labels\":\"hunter2\"}").3, "must be an array");
        let (_, _, _, detail) = refusal("{\"title\":\"a\",\"priority\":\"hunter2\"}");
        assert_eq!(detail, "must be one of `none`, `low`, `medium`, `high`, `urgent`");
        let long = format!("{{\"title\":\"a\",\"{}\":1}}", "k".repeat(5_000));
        assert!(refusal(long).1.len() < 120);
    }

    #[test]
    fn good_bodies_are_read() {
        let task: CreateTask =
            parse(b" \n{\"title\":\"caf\\u00e9 \\ud83d\\ude00\",\"type\":\"bug\"}").unwrap();
        assert_eq!((task.title.as_str(), task.task_type.as_deref()), ("café 😀", Some("bug")));
    }
}
