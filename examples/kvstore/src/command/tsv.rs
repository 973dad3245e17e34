//! Escapes of the tab-separated form.
//!
//! Invariant: unescaping what was escaped gives the same bytes, whatever they are, and what was escaped has neither a tab nor
//! a line end in it. What is no escape of ours is refused rather than guessed.
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
pub(crate) fn unescape(column: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut at = 0;
    while let Some(distance) = column[at..].iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&column[at..at + distance]);
        at += distance;
        out.push(match column.get(at + 1) {
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'\\') => b'\\',
            _ => return Err(Malformed::Escape { at }),
        });
        at += 2;
    }
    out.extend_from_slice(&column[at..]);
    Ok(())
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
            unescape(&escaped, &mut back).expect("escaped by us");
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn whatever_unescapes_escapes_to_itself() {
        let mut rng = Rng::new(11);
        let mut refused = 0;
        for _ in 0..10_000 {
            let column: Vec<u8> = (0..rng.below(12)).map(|_| *rng.pick(b"\\\\tnx")).collect();
            let (mut bytes, mut again) = (Vec::new(), Vec::new());
            match unescape(&column, &mut bytes) {
                Ok(()) => {
                    escape(&bytes, &mut again);
                    assert_eq!(again, column);
                }
                Err(_) => refused += 1,
            }
        }
        assert!((1..10_000).contains(&refused));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        assert_eq!(columns(b"k\tv"), Ok((&b"k"[..], &b"v"[..])));
        assert_eq!(columns(b"\t"), Ok((&b""[..], &b""[..])));
        assert_eq!(columns(b""), Err(Malformed::NoTab));
        assert_eq!(columns(b"k v"), Err(Malformed::NoTab));
        assert_eq!(columns(b"k\tv\tw"), Err(Malformed::SecondTab));
        for (column, at) in [(&b"ab\\x"[..], 2), (b"\\", 0), (b"\\\\\\", 2), (b"\\T", 0)] {
            assert_eq!(unescape(column, &mut Vec::new()), Err(Malformed::Escape { at }));
        }
    }
}
