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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// No JSON object, or another one than is expected.
    #[error("byte {at}: {reason}")]
    Json {
        /// Where in the line, counted from one.
        at: usize,
        /// What is wrong, what was expected. Holds nothing of the line.
        reason: String,
    },
    /// The line is longer than any that we write.
    #[error("more than {limit} bytes, longer than any line may be")]
    TooLong {
        /// The longest line.
        limit: usize,
    },
    /// Read, it is longer than a line may hold.
    #[error("a value of {found} bytes, of which a line holds {limit} at most")]
    TooLarge {
        /// Its length.
        found: usize,
        /// The longest.
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
            Self::Hex | Self::Base64 => self.write_digits(bytes, out),
        }
    }

    /// Appends `bytes` as the whole of what is printed.
    pub(crate) fn write_alone(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text => out.extend_from_slice(bytes),
            Self::Hex | Self::Base64 => self.write_column(bytes, out),
        }
    }

    /// Appends `bytes` in digits; text has none of its own and becomes base64.
    pub(crate) fn write_digits(self, bytes: &[u8], out: &mut Vec<u8>) {
        let digits = if self == Self::Hex { HEXLOWER } else { BASE64 };
        let begin = out.len();
        out.resize(begin + digits.encode_len(bytes.len()), 0);
        digits.encode_mut(bytes, &mut out[begin..]);
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
