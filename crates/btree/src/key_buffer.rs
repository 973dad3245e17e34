//! A key put together from the prefix of its leaf and the rest that its cell has.
//!
//! Invariant: the prefix stands at the beginning all the time; what is given as a key's length has that key before it.
//!
//! ```text
//!    0              window, a multiple of 16                +16                    +32
//!    ├── prefix ──── ─ ─ ┼──────────────┬────────────────────┼──────────────────────┤
//!    │                   │ prefix's end │ rest of the key ...                       │
//!                        └── skip ──────┘
//!   page        ... cell before │ rest of the key │ value ...
//!                   └── skip ───┘
//! ```
//!
//! The rest of a short key is not put behind the prefix alone: the whole window is written in two steps of 16 bytes, loaded from `skip`
//! bytes before the cell, with the prefix's end laid over them. For who is lent a key reads its first bytes at once, most often eight or
//! sixteen, and a processor can answer a load from a store that is still under way only if that store covers all of it; else the load
//! waits until the store has reached the cache, and so does the scan, at every row.

/// Bytes of a step.
const STEP: usize = 16;

/// The buffer.
#[derive(Debug, Default)]
pub(crate) struct KeyBuffer {
    bytes: Vec<u8>,
    prefix_len: usize,
    /// The first bytes of the window, as far as they are the prefix's; zeros behind them.
    prefix_end: u128,
    /// Ones where they stand not.
    rest: u128,
}

impl KeyBuffer {
    /// From now on keys begin with this.
    pub(crate) fn begin(&mut self, prefix: &[u8]) {
        let (window, skip) = (prefix.len() / STEP * STEP, prefix.len() % STEP);
        self.bytes.clear();
        self.bytes.extend_from_slice(prefix);
        self.bytes.resize(window + 2 * STEP, 0);
        self.prefix_len = prefix.len();
        self.rest = u128::MAX << (8 * skip);
        let (step, _) = self.bytes[window..].split_first_chunk().expect("two steps");
        self.prefix_end = u128::from_le_bytes(*step);
    }

    /// Puts the rest of a key behind the prefix: `len` bytes of the page at `offset`. Gives the length of the key.
    #[inline(always)]
    pub(crate) fn complete(&mut self, page: &[u8], offset: usize, len: usize) -> usize {
        let skip = self.prefix_len % STEP;
        let window = self.prefix_len - skip;
        let from = page.get(offset.wrapping_sub(skip)..).and_then(<[u8]>::first_chunk::<{ 2 * STEP }>);
        let to = self.bytes.get_mut(window..).and_then(<[u8]>::first_chunk_mut::<{ 2 * STEP }>);
        match (from, to) {
            (Some(from), Some(to)) if skip + len <= 2 * STEP => {
                let ([first, second], []) = from.as_chunks::<STEP>() else { unreachable!("two steps") };
                let first = u128::from_le_bytes(*first) & self.rest | self.prefix_end;
                to[..STEP].copy_from_slice(&first.to_le_bytes());
                to[STEP..].copy_from_slice(second); // what is too much is behind the key
                self.prefix_len + len
            }
            _ => self.complete_long(&page[offset..offset + len]),
        }
    }

    #[cold]
    fn complete_long(&mut self, rest: &[u8]) -> usize {
        let end = self.prefix_len + rest.len();
        if end > self.bytes.len() {
            self.bytes.resize(end + STEP, 0);
        }
        self.bytes[self.prefix_len..end].copy_from_slice(rest);
        end
    }

    /// The key whose length was given last.
    #[inline(always)]
    pub(crate) fn key(&self, len: usize) -> &[u8] {
        &self.bytes[..len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_prefix_and_the_rest_wherever_both_end() {
        let page: Vec<u8> = (0..=255).collect();
        let mut buffer = KeyBuffer::default();
        for prefix_len in 0..50 {
            let prefix = vec![0xee; prefix_len];
            buffer.begin(&prefix);
            for (offset, len) in [0, 1, 15, 16, 17, 100, 200, 223, 224, 225, 239, 240, 255]
                .into_iter()
                .flat_map(|offset| (0..50).map(move |len| (offset, len)))
                .filter(|(offset, len)| offset + len <= page.len())
            {
                let whole = buffer.complete(&page, offset, len);
                let expected = [&prefix[..], &page[offset..offset + len]].concat();
                assert_eq!(buffer.key(whole), expected, "prefix {prefix_len}, {len} at {offset}");
            }
        }
    }
}
