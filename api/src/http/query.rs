//! Query strings: keys that are known, each once, with values that fit. Anything else is 400 and named.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, Error as _, IntoDeserializer, Visitor,
        value::{Error, MapDeserializer},
    },
    forward_to_deserialize_any,
};
use taskpost_common::{
    Event, Position, UserId,
    problem::{Code, FieldError},
};

use super::{
    fault::{Fault, short},
    problem::{ApiError, Result},
};

/// The most words in one list.
const MOST_WORDS: usize = 50;

/// Reads a query string into a struct that denies unknown fields.
pub(crate) fn parse<T: DeserializeOwned>(query: &str) -> Result<T> {
    let pairs = url::form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key, Value(value)));
    serde_path_to_error::deserialize(MapDeserializer::<_, Error>::new(pairs)).map_err(|error| {
        let fault = Fault::of(&error);
        let key = fault.path.first().map_or_else(String::new, |key| short(key));
        let code = match fault.code {
            "unknown_field" => "unknown_key",
            "duplicate_field" => "repeated_key",
            code => code,
        };
        ApiError::at(Code::BadRequest, FieldError::new(format!("?{key}"), code, fault.detail))
    })
}

/// A value as serde reads it: always a text, and present.
struct Value<'a>(Cow<'a, str>);

impl<'de> IntoDeserializer<'de, Error> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Error> {
        self.0.into_deserializer().deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> std::result::Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> std::result::Result<V::Value, Error> {
        self.0.into_deserializer().deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// A value that has a parser.
#[derive(Clone, Debug)]
pub(crate) struct Parsed<T>(pub(crate) T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// Values separated by commas, any of which will do.
#[derive(Clone, Debug)]
pub(crate) struct AnyOf<T>(pub(crate) Vec<T>);

impl<T> Default for AnyOf<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for AnyOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        if text.split(',').count() > MOST_WORDS {
            return Err(D::Error::custom(format_args!("must have at most {MOST_WORDS} values")));
        }
        text.split(',')
            .map(|word| word.parse().map_err(D::Error::custom))
            .collect::<std::result::Result<_, _>>()
            .map(Self)
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number<const LEAST: u32, const MOST: u32>(pub(crate) u32);

impl<const LEAST: u32, const MOST: u32> FromStr for Number<LEAST, MOST> {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
        number.map(Self).ok_or_else(|| format!("must be a whole number from {LEAST} to {MOST}"))
    }
}

/// How many items a page may have.
pub(crate) type Limit = Parsed<Number<1, 200>>;

impl Default for Limit {
    fn default() -> Self {
        Self(Number(50))
    }
}

impl Limit {
    pub(crate) fn get(&self) -> usize {
        usize::try_from(self.0.0).unwrap_or(1)
    }
}

/// A word that the store may be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Word(pub(crate) String);

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        let good = (1..=64).contains(&text.len()) && !text.chars().any(char::is_control);
        if good { Ok(Self(text.to_owned())) } else { Err("must be words of 1 to 64 bytes") }
    }
}

/// The words of a search, in lower case, without what is neither a letter nor a digit.
#[derive(Clone, Debug)]
pub(crate) struct SearchWords(pub(crate) Vec<String>);

impl FromStr for SearchWords {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let words: Vec<String> = words.map(str::to_lowercase).collect();
        let good = (1..=10).contains(&words.len()) && text.len() <= 200;
        if good { Ok(Self(words)) } else { Err("must be 1 to 10 words, of at most 200 bytes") }
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) DateTime<Utc>);

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        let time =
            DateTime::parse_from_rfc3339(text).map_err(|_| "must be a time such as 2026-01-31T12:00:00Z")?;
        Ok(Self(time.to_utc()))
    }
}

/// A user, or whoever asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Person {
    Me,
    User(UserId),
}

impl FromStr for Person {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        match text {
            "me" => Ok(Self::Me),
            id => id.parse().map(Self::User).map_err(|_| "must be ids of users, or `me`"),
        }
    }
}

impl Person {
    pub(crate) const fn id(self, me: UserId) -> UserId {
        match self {
            Self::Me => me,
            Self::User(id) => id,
        }
    }
}

/// A position to read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After(pub(crate) Position);

impl FromStr for After {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        let position = text.parse::<i64>().ok().filter(|position| *position >= 0);
        position.map(|position| Self(Position(position))).ok_or("must be a position: a whole number from 0")
    }
}

/// A type of events, or a family of them.
#[derive(Clone, Debug)]
pub(crate) struct EventType(pub(crate) String);

impl FromStr for EventType {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        let family = text.strip_suffix('*').filter(|family| family.ends_with('.'));
        let known = match family {
            Some(family) => Event::TYPES.iter().any(|name| name.starts_with(family)),
            None => Event::TYPES.contains(&text),
        };
        if known {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be types such as task.created, or families such as task.*")
        }
    }
}

#[cfg(test)]
mod tests {
    use taskpost_common::{ProjectId, task::Priority};

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Keys {
        priority: AnyOf<Priority>,
        #[serde(rename = "created_at[gte]")]
        from: Option<Parsed<Time>>,
        project_id: Option<ProjectId>,
        assignee_id: AnyOf<Person>,
        r#type: AnyOf<EventType>,
        after: Option<Parsed<After>>,
        limit: Limit,
    }

    fn refusal(query: &str) -> (u16, String, String) {
        let problem = parse::<Keys>(query).map(drop).unwrap_err().problem();
        let error = problem.errors.into_iter().next().unwrap();
        (problem.status, error.pointer, error.code)
    }

    #[test]
    fn what_does_not_fit_is_400_with_its_key() {
        for (query, pointer, code) in [
            ("colour=red", "?colour", "unknown_key"),
            ("limit=5&limit=6", "?limit", "repeated_key"),
            ("limit=5&%6cimit=6", "?limit", "repeated_key"),
            ("limit=0", "?limit", "invalid_value"),
            ("limit=201", "?limit", "invalid_value"),
            ("limit=-1", "?limit", "invalid_value"),
            ("limit=1e9", "?limit", "invalid_value"),
            ("limit=", "?limit", "invalid_value"),
            ("limit", "?limit", "invalid_value"),
            ("priority=low,most", "?priority", "invalid_value"),
            ("priority=low,", "?priority", "invalid_value"),
            ("created_at[gte]=yesterday", "?created_at[gte]", "invalid_value"),
            ("project_id=1", "?project_id", "invalid_value"),
            ("assignee_id=you", "?assignee_id", "invalid_value"),
            ("type=task", "?type", "invalid_value"),
            ("type=*", "?type", "invalid_value"),
            ("type=.*", "?type", "invalid_value"),
            ("after=-1", "?after", "invalid_value"),
            ("after=99999999999999999999", "?after", "invalid_value"),
        ] {
            assert_eq!(refusal(query), (400, pointer.to_owned(), code.to_owned()), "{query}");
        }
        let many = format!("priority={}", "low,".repeat(60));
        assert_eq!(refusal(&many).1, "?priority");
    }

    #[test]
    fn good_keys_are_read() {
        let query = "priority=low,high&created_at%5Bgte%5D=2026-01-31T12:00:00%2B01:00&assignee_id=me&type=task.*,user.registered&after=0&limit=200";
        let keys: Keys = parse(query).unwrap();
        assert_eq!(keys.priority.0, [Priority::Low, Priority::High]);
        assert_eq!(keys.from.unwrap().0.0.to_rfc3339(), "2026-01-31T11:00:00+00:00");
        assert!(matches!(keys.assignee_id.0[..], [Person::Me]));
        assert_eq!((keys.r#type.0.len(), keys.after.unwrap().0.0.0, keys.limit.get()), (2, 0, 200));
        assert_eq!(parse::<Keys>("").unwrap().limit.get(), 50);
        assert!(keys.project_id.is_none());
    }
}
