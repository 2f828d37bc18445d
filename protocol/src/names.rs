//! Enums that are plain names on the wire, and enums that are a map of one name to a body. Both
//! tolerate names they do not know, since the other side may be newer.

/// Declares an enum whose variants are strings on the wire and in text. With `else Variant`, a
/// name that is not known becomes that variant; without, it is an error.
macro_rules! named {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $text:literal ),+ $(,)? }
        $(else $other:ident)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$vmeta])* $variant ),+ }

        impl $name {
            /// The name on the wire, in files and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text ),+ }
            }
            /// Every variant, in order of declaration.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),+ ];
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                $( if text == $text { return Ok(Self::$variant); } )+
                $( return Ok(Self::$other); )?
                #[allow(unreachable_code)]
                Err(format!("unknown {} `{text}`; it is one of: {}",
                    stringify!($name).to_lowercase(), [$( $text ),+].join(", ")))
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, "a name out of: {}", [$( $text ),+].join(", "))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                d.deserialize_str(Visitor)
            }
        }
    };
}

/// Declares an enum that is a map of one entry on the wire: its name, then its body. A name that
/// is not known becomes `Unknown`, whose body is skipped.
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident($body:ty) = $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $( $(#[$vmeta])* $variant($body), )+
            /// Something that a newer version says and this one does not know.
            Unknown,
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = s.serialize_map(Some(1))?;
                match self {
                    $( Self::$variant(body) => map.serialize_entry($text, body)?, )+
                    Self::Unknown => map.serialize_entry("unknown", &())?,
                }
                map.end()
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                enum Tag { $( $variant, )+ Unknown }
                impl<'de> serde::Deserialize<'de> for Tag {
                    fn deserialize<D>(d: D) -> Result<Self, D::Error>
                    where
                        D: serde::Deserializer<'de>,
                    {
                        struct TagVisitor;
                        impl serde::de::Visitor<'_> for TagVisitor {
                            type Value = Tag;
                            fn expecting(
                                &self,
                                f: &mut std::fmt::Formatter<'_>,
                            ) -> std::fmt::Result {
                                f.write_str("a name")
                            }
                            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Tag, E> {
                                Ok(match text {
                                    $( $text => Tag::$variant, )+
                                    _ => Tag::Unknown,
                                })
                            }
                        }
                        d.deserialize_str(TagVisitor)
                    }
                }
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a map of one entry")
                    }
                    fn visit_map<A>(self, mut map: A) -> Result<$name, A::Error>
                    where
                        A: serde::de::MapAccess<'de>,
                    {
                        use serde::de::Error;
                        let tag = map.next_key::<Tag>()?;
                        let tag = tag.ok_or_else(|| A::Error::custom("an empty map"))?;
                        let value = match tag {
                            $( Tag::$variant => $name::$variant(map.next_value()?), )+
                            Tag::Unknown => {
                                map.next_value::<serde::de::IgnoredAny>()?;
                                $name::Unknown
                            }
                        };
                        match map.next_key::<serde::de::IgnoredAny>()? {
                            None => Ok(value),
                            Some(_) => Err(A::Error::custom("more than one entry")),
                        }
                    }
                }
                d.deserialize_map(Visitor)
            }
        }
    };
}

pub(crate) use {named, tagged};
