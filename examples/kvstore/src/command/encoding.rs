//! How keys and values are written: in arguments, in lines, and in output.

use std::ffi::OsStr;

use data_encoding::{BASE64, DecodeError, HEXLOWER, HEXLOWER_PERMISSIVE};

use super::failure::Failure;
use super::tsv;

/// How keys and values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are; escaped in lines.
    Text,
    /// Two hexadecimal digits a byte.
    Hex,
    /// Base64 with padding (RFC 4648).
    Base64,
}

/// Why a line or a column of it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// There is no second column.
    #[error("no tab between a key and a value")]
    NoTab,
    /// There is a third column.
    #[error("a second tab, which is written \\t within a key or a value")]
    SecondTab,
    /// No hexadecimal digits, or an odd number of them.
    #[error("not hexadecimal: {0}")]
    Hex(DecodeError),
    /// No base64.
    #[error("not base64: {0}")]
    Base64(DecodeError),
    /// More bytes than the longest entry takes.
    #[error("more than {limit} bytes, longer than any entry")]
    TooLong {
        /// The longest line.
        limit: usize,
    },
}

impl Encoding {
    /// The bytes of an argument.
    pub(crate) fn argument(self, name: &'static str, argument: &OsStr) -> Result<Vec<u8>, Failure> {
        let written = argument.as_encoded_bytes();
        match self {
            Self::Text => Ok(written.to_vec()),
            Self::Hex | Self::Base64 => {
                let mut bytes = Vec::new();
                self.read_column(written, &mut bytes)
                    .map_err(|reason| Failure::Argument { name, reason: reason.to_string() })?;
                Ok(bytes)
            }
        }
    }

    /// Replaces the contents of `bytes` by what a column of a line stands for.
    pub(crate) fn read_column(self, column: &[u8], bytes: &mut Vec<u8>) -> Result<(), Malformed> {
        bytes.clear();
        match self {
            Self::Text => {
                tsv::unescape(column, bytes);
                Ok(())
            }
            Self::Hex => HEXLOWER_PERMISSIVE.decode(column).map(|read| *bytes = read).map_err(Malformed::Hex),
            Self::Base64 => BASE64.decode(column).map(|read| *bytes = read).map_err(Malformed::Base64),
        }
    }

    /// Appends `bytes` as a column of a line.
    pub(crate) fn write_column(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text => tsv::escape(bytes, out),
            Self::Hex | Self::Base64 => out.extend_from_slice(self.to_text(bytes).as_bytes()),
        }
    }

    /// Appends `bytes` as the whole of what is printed.
    pub(crate) fn write_alone(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text => out.extend_from_slice(bytes),
            Self::Hex | Self::Base64 => self.write_column(bytes, out),
        }
    }

    fn to_text(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => HEXLOWER.encode(bytes),
            Self::Text | Self::Base64 => BASE64.encode(bytes),
        }
    }

    /// The name and the value of a JSON member that holds `bytes`: text where it is text, base64 where it is none.
    pub(crate) fn json_member(self, name: &str, bytes: &[u8]) -> (String, String) {
        match (self, std::str::from_utf8(bytes)) {
            (Self::Text, Ok(text)) => (name.to_owned(), text.to_owned()),
            (Self::Hex, _) => (format!("{name}_hex"), self.to_text(bytes)),
            (Self::Text | Self::Base64, _) => (format!("{name}_base64"), self.to_text(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_survive_in_every_encoding() {
        let every_byte: Vec<u8> = (0..=255).collect();
        for encoding in [Encoding::Text, Encoding::Hex, Encoding::Base64] {
            for bytes in [&b""[..], b"key", &every_byte] {
                let (mut column, mut back) = (Vec::new(), b"before".to_vec());
                encoding.write_column(bytes, &mut column);
                encoding.read_column(&column, &mut back).expect("written by us");
                assert_eq!(back, bytes, "{encoding:?}");
            }
        }
    }

    #[test]
    fn json_names_say_what_the_text_is() {
        let member = |encoding: Encoding, bytes| {
            let (name, text) = encoding.json_member("key", bytes);
            format!("{name} {text}")
        };
        assert_eq!(member(Encoding::Text, b"k\n"), "key k\n");
        assert_eq!(member(Encoding::Text, b"\xff"), "key_base64 /w==");
        assert_eq!(member(Encoding::Base64, b"k"), "key_base64 aw==");
        assert_eq!(member(Encoding::Hex, b"k"), "key_hex 6b");
    }

    #[test]
    fn what_is_not_in_the_encoding_is_refused() {
        for (encoding, text) in [
            (Encoding::Hex, "abc"),
            (Encoding::Hex, "zz"),
            (Encoding::Base64, "a"),
            (Encoding::Base64, "****"),
        ] {
            assert!(encoding.argument("K", OsStr::new(text)).is_err(), "{text}");
        }
        assert_eq!(Encoding::Hex.argument("K", OsStr::new("6B6c")).expect("both cases"), b"kl");
        assert_eq!(Encoding::Text.argument("K", OsStr::new("a\\t")).expect("as it is"), b"a\\t");
    }
}
