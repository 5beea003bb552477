//! Closed sets of words: one declaration gives the enum, its spelling in JSON and SQL, and its parser.

/// A word that is not one of a closed set.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` is not one of {expected}")]
pub struct UnknownWord {
    /// What was given.
    pub word: String,
    /// The words that would do.
    pub expected: &'static str,
}

macro_rules! text_enum {
    ($(#[$doc:meta])+ $name:ident { $($(#[$vdoc:meta])+ $variant:ident = $text:tt,)+ }) => {
        $(#[$doc])+
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, schemars::JsonSchema, utoipa::ToSchema,
        )]
        pub enum $name {
            $($(#[$vdoc])+ #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its spelling in JSON and SQL.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        /// From a text only: a derived enum would also be read from an object such as `{"low": null}`.
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;
                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        word.parse().map_err(|_| E::unknown_variant(word, &[$($text),+]))
                    }
                }
                deserializer.deserialize_str(Word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text_enum::UnknownWord;
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::text_enum::UnknownWord {
                        word: word.to_owned(),
                        expected: concat!($($text, " "),+).trim_ascii_end(),
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::text_enum::UnknownWord;
            fn try_from(word: String) -> Result<Self, Self::Error> {
                word.parse()
            }
        }
    };
}
pub(crate) use text_enum;
