//! Escapes of the tab-separated form.
//!
//! Invariant: unescaping what was escaped gives the same bytes, whatever they are, and what was escaped has neither a tab nor
//! a line end in it. A backslash that begins none of the three escapes stands for itself, so that a listing of files is read as it
//! is.
//!
//! ```text
//!   line = key TAB value LF        TAB in a key or value: \t     LF: \n     backslash: \\
//! ```

use super::encoding::Malformed;

/// Appends `bytes`, escaped.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\t' | b'\n' | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends what `column` stands for.
pub(crate) fn unescape(column: &[u8], out: &mut Vec<u8>) {
    let mut rest = column;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let (byte, taken) = match rest.get(at + 1) {
            Some(b't') => (b'\t', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'\\') => (b'\\', 2),
            _ => (b'\\', 1),
        };
        out.push(byte);
        rest = &rest[at + taken..];
    }
    out.extend_from_slice(rest);
}

/// Splits a line, without its end, into its two columns.
pub(crate) fn columns(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or(Malformed::NoTab)?;
    let (key, value) = (&line[..tab], &line[tab + 1..]);
    if value.contains(&b'\t') {
        return Err(Malformed::SecondTab);
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagestone_testkit::Rng;

    #[test]
    fn every_pair_of_bytes_survives() {
        let (mut escaped, mut back) = (Vec::new(), Vec::new());
        for pair in 0..=u16::MAX {
            let bytes = pair.to_be_bytes();
            escaped.clear();
            back.clear();
            escape(&bytes, &mut escaped);
            assert!(!escaped.iter().any(|byte| matches!(byte, b'\t' | b'\n')));
            unescape(&escaped, &mut back);
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn any_column_is_read_and_what_is_read_survives() {
        let mut rng = Rng::new(11);
        for _ in 0..10_000 {
            let column: Vec<u8> = (0..rng.below(12)).map(|_| *rng.pick(b"\\\\tnx")).collect();
            let (mut bytes, mut escaped, mut again) = (Vec::new(), Vec::new(), Vec::new());
            unescape(&column, &mut bytes);
            escape(&bytes, &mut escaped);
            unescape(&escaped, &mut again);
            assert_eq!(again, bytes);
        }
        for (column, meaning) in
            [(&b"a\\x2dc"[..], &b"a\\x2dc"[..]), (b"\\", b"\\"), (b"\\\\\\", b"\\\\"), (b"\\T\\t", b"\\T\t")]
        {
            let mut bytes = Vec::new();
            unescape(column, &mut bytes);
            assert_eq!(bytes, meaning);
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        assert_eq!(columns(b"k\tv"), Ok((&b"k"[..], &b"v"[..])));
        assert_eq!(columns(b"\t"), Ok((&b""[..], &b""[..])));
        assert_eq!(columns(b""), Err(Malformed::NoTab));
        assert_eq!(columns(b"k v"), Err(Malformed::NoTab));
        assert_eq!(columns(b"k\tv\tw"), Err(Malformed::SecondTab));
    }
}
