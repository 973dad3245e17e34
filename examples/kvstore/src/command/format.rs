//! How entries are printed.

use kvstore::{BatchDone, Put};
use serde_json::{Map, Value};

use super::encoding::Encoding;
use super::json;

/// How entries are printed: as TSV, or as JSON lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    /// How keys and values are written.
    pub(crate) encoding: Encoding,
    /// JSON rather than TSV.
    pub(crate) json: bool,
}

impl Format {
    /// Appends the line of an entry.
    pub(crate) fn entry(self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if self.json {
            return self.object(&[("key", key), ("value", value)], out);
        }
        self.encoding.write_column(key, out);
        out.push(b'\t');
        self.encoding.write_column(value, out);
        out.push(b'\n');
    }

    /// Appends the line of a key alone.
    pub(crate) fn key(self, key: &[u8], out: &mut Vec<u8>) {
        if self.json {
            return self.object(&[("key", key)], out);
        }
        self.encoding.write_column(key, out);
        out.push(b'\n');
    }

    /// Whether the answer to a lookup is the value as it is.
    pub(crate) fn is_bare(self) -> bool {
        self.encoding == Encoding::Text && !self.json
    }

    /// Appends the answer to a lookup: the value alone, or the entry in JSON.
    pub(crate) fn answer(self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if self.json {
            return self.entry(key, value, out);
        }
        self.encoding.write_alone(value, out);
        out.push(b'\n');
    }

    /// Appends the answer to a put: nothing, or in JSON whether it replaced a value.
    pub(crate) fn put(self, put: Put, out: &mut Vec<u8>) {
        if self.json {
            out.extend_from_slice(format!("{{\"replaced\":{}}}\n", put.replaced).as_bytes());
        }
    }

    /// Appends the answer to a batch: nothing, or in JSON what it did.
    pub(crate) fn batch(self, done: &BatchDone, out: &mut Vec<u8>) {
        if self.json {
            let figures =
                [("inserted", done.inserted), ("replaced", done.replaced), ("removed", done.removed)];
            self.figures(figures.into_iter().map(|(name, count)| (name, count as u64)), out);
        }
    }

    /// Appends a single named figure: bare, or in an object.
    pub(crate) fn figure(self, name: &str, value: u64, out: &mut Vec<u8>) {
        let line = if self.json { serde_json::json!({ name: value }).to_string() } else { value.to_string() };
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }

    /// Appends figures: `name value` a line, or one object.
    pub(crate) fn figures<'a>(self, figures: impl Iterator<Item = (&'a str, u64)>, out: &mut Vec<u8>) {
        if self.json {
            let object: Map<String, Value> =
                figures.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            out.extend_from_slice(Value::Object(object).to_string().as_bytes());
            out.push(b'\n');
        } else {
            for (name, value) in figures {
                out.extend_from_slice(format!("{name} {value}\n").as_bytes());
            }
        }
    }

    fn object(self, members: &[(&str, &[u8])], out: &mut Vec<u8>) {
        json::write_object(self.encoding, members, out);
    }
}
