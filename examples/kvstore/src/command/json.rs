//! JSON lines, both ways.
//!
//! Invariant: reading what was written gives the same bytes, whatever they are. What is read is exactly one of the objects
//! below: a member twice, under two names, under another name or missing is an error, and so is text that is no UTF-8.
//!
//! ```text
//!   {"key": TEXT, "value": TEXT}                    an entry
//!   {"op": "put", "key": TEXT, "value": TEXT}       the same
//!   {"op": "del", "key": TEXT}                      a key to remove
//!
//!   "key", "value"                 JSON text, which stands for its UTF-8 bytes
//!   "key_base64", "value_base64"   base64 with padding (RFC 4648)
//!   "key_hex", "value_hex"         two hexadecimal digits a byte
//! ```
//!
//! Bytes are written as text where they are UTF-8 and hold none of the control characters for which JSON takes six bytes;
//! otherwise as base64. So a written line has at most two bytes for one, and its length is bounded by that of the entry.

use std::fmt;

use serde_core::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::error::Category;

use super::encoding::{Encoding, Malformed};

/// What a line asks for. Its buffers are kept from line to line.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Whether the key is removed, and `value` means nothing.
    pub(crate) del: bool,
    /// The key.
    pub(crate) key: Vec<u8>,
    /// The value.
    pub(crate) value: Vec<u8>,
}

/// Appends the line of an object whose members hold these bytes.
pub(crate) fn write_object(encoding: Encoding, members: &[(&str, &[u8])], out: &mut Vec<u8>) {
    for (at, (name, bytes)) in members.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        match (encoding, as_text(bytes)) {
            (Encoding::Text, Some(text)) => {
                out.extend_from_slice(b"\":");
                serde_json::to_writer(&mut *out, text).expect("text is JSON, and a vector takes it");
            }
            (encoding, _) => {
                out.extend_from_slice(if encoding == Encoding::Hex { b"_hex\":\"" } else { b"_base64\":\"" });
                encoding.write_digits(bytes, out);
                out.push(b'"');
            }
        }
    }
    out.extend_from_slice(b"}\n");
}

/// The bytes as text that JSON writes with at most two bytes for one.
fn as_text(bytes: &[u8]) -> Option<&str> {
    let six = |byte: &u8| *byte < b' ' && !matches!(byte, 8 | b'\t' | b'\n' | 12 | b'\r');
    if bytes.iter().any(six) { None } else { std::str::from_utf8(bytes).ok() }
}

/// Reads a line, without its end.
pub(crate) fn read(line: &[u8], change: &mut Change) -> Result<(), Malformed> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let read = json.deserialize_map(Object(change)).and_then(|()| json.end());
    read.map_err(|error| Malformed::Json { at: error.column(), reason: reason(&error) })
}

/// What is wrong, without the position, which we tell ourselves, and without what was found, which may be data.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let reason = text.strip_suffix(&place).unwrap_or(&text);
    match (error.classify(), reason.rsplit_once(", expected ")) {
        (Category::Data, Some((_, expected))) => format!("expected {expected}"),
        _ => reason.to_owned(),
    }
}

/// The members of a line.
enum Member {
    Op,
    Key(Encoding),
    Value(Encoding),
}

/// Reads the object of a line.
struct Object<'a>(&'a mut Change);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object with a key and a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut op, mut key, mut value) = (None, false, false);
        let once = |seen| if seen { Err(A::Error::custom("a member for the second time")) } else { Ok(()) };
        while let Some(member) = map.next_key_seed(Name)? {
            match member {
                Member::Op => {
                    once(op.is_some())?;
                    op = Some(map.next_value_seed(Op)?);
                }
                Member::Key(encoding) => {
                    once(key)?;
                    map.next_value_seed(Bytes { encoding, into: &mut self.0.key })?;
                    key = true;
                }
                Member::Value(encoding) => {
                    once(value)?;
                    map.next_value_seed(Bytes { encoding, into: &mut self.0.value })?;
                    value = true;
                }
            }
        }
        self.0.del = op.unwrap_or(false);
        match (key, value, self.0.del) {
            (false, ..) => Err(A::Error::custom("no key")),
            (_, false, false) => Err(A::Error::custom("no value")),
            (_, true, true) => Err(A::Error::custom("a value beside \"op\":\"del\"")),
            _ => Ok(()),
        }
    }
}

/// Reads the name of a member.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Member;

    fn deserialize<D: serde_core::Deserializer<'de>>(self, json: D) -> Result<Member, D::Error> {
        json.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Member;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("the name of a member")
    }

    fn visit_str<E: serde_core::de::Error>(self, name: &str) -> Result<Member, E> {
        Ok(match name {
            "op" => Member::Op,
            "key" => Member::Key(Encoding::Text),
            "key_hex" => Member::Key(Encoding::Hex),
            "key_base64" => Member::Key(Encoding::Base64),
            "value" => Member::Value(Encoding::Text),
            "value_hex" => Member::Value(Encoding::Hex),
            "value_base64" => Member::Value(Encoding::Base64),
            _ => return Err(E::custom("expected op, key or value, or one of these with _hex or _base64")),
        })
    }
}

/// Reads what to do: whether to remove.
struct Op;

impl<'de> DeserializeSeed<'de> for Op {
    type Value = bool;

    fn deserialize<D: serde_core::Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Op {
    type Value = bool;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("\"put\" or \"del\"")
    }

    fn visit_str<E: serde_core::de::Error>(self, op: &str) -> Result<bool, E> {
        match op {
            "put" => Ok(false),
            "del" => Ok(true),
            _ => Err(E::custom("expected \"put\" or \"del\"")),
        }
    }
}

/// Replaces the contents of a buffer by the bytes that a text stands for.
struct Bytes<'a> {
    encoding: Encoding,
    into: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Bytes<'_> {
    type Value = ();

    fn deserialize<D: serde_core::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Bytes<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a text")
    }

    fn visit_str<E: serde_core::de::Error>(self, text: &str) -> Result<(), E> {
        if self.encoding == Encoding::Text {
            self.into.clear();
            self.into.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        self.encoding.read_column(text.as_bytes(), self.into).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagestone_testkit::Rng;

    fn written(encoding: Encoding, key: &[u8]) -> String {
        let mut line = Vec::new();
        write_object(encoding, &[("key", key)], &mut line);
        String::from_utf8(line).expect("JSON is text")
    }

    #[test]
    fn names_say_what_the_text_is() {
        assert_eq!(written(Encoding::Text, b"k\n\"\\"), "{\"key\":\"k\\n\\\"\\\\\"}\n");
        assert_eq!(written(Encoding::Text, b"\xff"), "{\"key_base64\":\"/w==\"}\n");
        assert_eq!(written(Encoding::Text, b"\x01"), "{\"key_base64\":\"AQ==\"}\n");
        assert_eq!(written(Encoding::Base64, b"k"), "{\"key_base64\":\"aw==\"}\n");
        assert_eq!(written(Encoding::Hex, b"k"), "{\"key_hex\":\"6b\"}\n");
    }

    #[test]
    fn any_bytes_survive_and_take_two_for_one_at_most() {
        let mut rng = Rng::new(5);
        let (mut line, mut change) = (Vec::new(), Change::default());
        for round in 0..20_000 {
            let pool = *rng.pick(&[
                &b"\"\\\n\t\r\x08\x0c"[..],
                b"\x00\x01\x1f\x7f",
                "a\u{e9}\u{20ac}\u{1f980}".as_bytes(),
                b"\xff\xc3\xed\xa0\x80",
            ]);
            let mut any = |len: u64| -> Vec<u8> {
                (0..len)
                    .map(|_| if rng.chance(40) { rng.next_u64() as u8 } else { *rng.pick(pool) })
                    .collect()
            };
            let (key, value) = (any(round % 7), any(round % 23));
            for encoding in [Encoding::Text, Encoding::Hex, Encoding::Base64] {
                line.clear();
                write_object(encoding, &[("key", &key), ("value", &value)], &mut line);
                assert!(line.len() <= 2 * (key.len() + value.len()) + 40, "{}", line.escape_ascii());
                assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                read(&line[..line.len() - 1], &mut change).expect("written by us");
                assert_eq!((&change.key, &change.value, change.del), (&key, &value, false));
            }
        }
    }

    #[test]
    fn what_is_no_line_is_refused_and_not_repeated() {
        let mut change = Change::default();
        for (line, why) in [
            ("", "byte 0: EOF while parsing a value"),
            ("secret", "expected value"),
            ("null", "expected an object with a key and a value"),
            ("\"secret, expected secret\"", "expected an object with a key and a value"),
            ("[\"k\",\"v\"]", "expected an object with a key and a value"),
            ("{}", "no key"),
            ("{\"key\":\"secret\"}", "no value"),
            ("{\"value\":\"secret\"}", "no key"),
            ("{\"key\":\"k\",\"value\":5}", "expected a text"),
            ("{\"key\":\"k\",\"value\":null}", "expected a text"),
            ("{\"key\":\"k\",\"key\":\"k\",\"value\":\"v\"}", "byte 16: a member for the second time"),
            ("{\"key\":\"k\",\"key_hex\":\"6b\",\"value\":\"v\"}", "a member for the second time"),
            ("{\"key\":\"k\",\"value\":\"v\",\"secret\":1}", "expected op, key or value"),
            ("{\"key_hex\":\"6\",\"value\":\"v\"}", "not hexadecimal"),
            ("{\"key_base64\":\"_w==\",\"value\":\"v\"}", "not base64"),
            ("{\"op\":\"secret\",\"key\":\"k\"}", "expected \"put\" or \"del\""),
            ("{\"op\":\"del\",\"key\":\"k\",\"value\":\"v\"}", "a value beside"),
            ("{\"key\":\"\\ud800\",\"value\":\"v\"}", "hex escape"),
            ("{\"key\":\"k\",\"value\":\"v\"} more", "trailing characters"),
            ("{\"key\":\"k\",\"value\":\"v", "EOF while parsing a string"),
        ] {
            let reason = read(line.as_bytes(), &mut change).expect_err(line).to_string();
            assert!(reason.contains(why) && !reason.contains("secret"), "{line}: {reason}");
        }
        read(b"{\"key\":\"\xff\",\"value\":\"v\"}", &mut change).expect_err("no UTF-8");
    }

    #[test]
    fn members_stand_in_any_order() {
        let mut change = Change { del: true, ..Change::default() };
        read(b" {\"value_hex\":\"00\", \"op\":\"put\", \"key\":\"\\u0061\"} ", &mut change).expect("a put");
        assert_eq!((&change.key[..], &change.value[..], change.del), (&b"a"[..], &b"\0"[..], false));
        read(b"{\"key_base64\":\"Yg==\",\"op\":\"del\"}", &mut change).expect("a removal");
        assert_eq!((&change.key[..], change.del), (&b"b"[..], true));
    }
}
