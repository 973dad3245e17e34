//! Bytes that a writer may be changing while a reader looks at them.
//!
//! Invariant: every access to such bytes is a relaxed load or store of an aligned `AtomicU64`, and nothing else. Mixed
//! sizes would be undefined, and a `&[u8]` over them would be a data race; so no `&[u8]` ever leaves this file. What was
//! read means nothing until the latch it was read under has been validated (P1). After Boehm, *Can Seqlocks Get Along with
//! Programming Language Memory Models?*, MSPC 2012.
//!
//! A word holds eight bytes in little-endian order, on every machine: byte `i` of a page is bits `8 * (i % 8)` and up of
//! word `i / 8`.

use std::cmp::Ordering as Compare;

use pagestone_sync::atomic::{AtomicU64, Ordering};
use pagestone_sync::hint::prefetch;

use crate::header::{ID_AT, LSN_AT};
use crate::{Lsn, PAGE_HEADER_SIZE, PageError, PageHeader, PageId, PageKind, SwipArray};

/// Words of the header.
const HEADER_WORDS: usize = PAGE_HEADER_SIZE / 8;

/// Words of a cache line, nearly everywhere.
pub(crate) const LINE_WORDS: usize = 8;

/// An offset that leads outside the page: the bytes were torn by a writer, or the page is malformed. Whoever validates
/// the latch knows which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a word, an offset or a length outside the page")]
pub struct OutOfBounds;

impl OutOfBounds {
    /// The error for a page that was not being changed meanwhile.
    pub fn malformed(self, page_id: PageId) -> PageError {
        PageError::Malformed { page_id, reason: "an offset leads outside the page" }
    }
}

/// A page's bytes, to read while others may write.
#[derive(Clone, Copy)]
pub struct SpeculativePage<'a> {
    words: &'a [AtomicU64],
}

impl std::fmt::Debug for SpeculativePage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpeculativePage({} bytes)", self.len())
    }
}

impl<'a> SpeculativePage<'a> {
    /// Over the words of a page.
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    /// Bytes of the page.
    pub fn len(self) -> usize {
        self.words.len() * 8
    }

    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.words.is_empty()
    }

    /// The word with this index.
    #[inline]
    pub fn word(self, index: usize) -> Result<u64, OutOfBounds> {
        match self.words.get(index) {
            Some(word) => Ok(word.load(Ordering::Relaxed)),
            None => Err(OutOfBounds),
        }
    }

    /// Asks the processor for the cache line of a word that will be read soon. Reads nothing.
    #[inline]
    pub fn prefetch(self, index: usize) {
        self.words.get(index).into_iter().for_each(prefetch);
    }

    /// As [`SpeculativePage::prefetch`], for each line of the page.
    pub fn prefetch_all(self) {
        self.words.iter().step_by(LINE_WORDS).for_each(prefetch);
    }

    /// As [`SpeculativePage::prefetch`], for each line of the first `WORDS` words; nothing if the page has fewer.
    #[inline]
    pub fn prefetch_first<const WORDS: usize>(self) {
        if let Some(first) = self.words.first_chunk::<WORDS>() {
            // Chunks of a length that the compiler knows become as many instructions and no loop.
            first.as_chunks::<LINE_WORDS>().0.iter().for_each(|line| prefetch(&line[0]));
        }
    }

    /// Two bytes at an even offset.
    #[inline]
    pub fn u16_at(self, offset: usize) -> Result<u16, OutOfBounds> {
        debug_assert_eq!(offset % 2, 0);
        Ok((self.word(offset / 8)? >> (8 * (offset % 8))) as u16)
    }

    /// Four bytes at a multiple of four.
    #[inline]
    pub fn u32_at(self, offset: usize) -> Result<u32, OutOfBounds> {
        debug_assert_eq!(offset % 4, 0);
        Ok((self.word(offset / 8)? >> (8 * (offset % 8))) as u32)
    }

    /// One byte.
    #[inline]
    pub fn u8_at(self, offset: usize) -> Result<u8, OutOfBounds> {
        Ok((self.word(offset / 8)? >> (8 * (offset % 8))) as u8)
    }

    /// Words by index, for loops that check their bounds once.
    #[inline]
    pub(crate) fn words(self, range: std::ops::Range<usize>) -> Result<&'a [AtomicU64], OutOfBounds> {
        self.words.get(range).ok_or(OutOfBounds)
    }

    /// Up to eight bytes at any offset, as the low bytes of a little-endian word; the rest is zero. `len` is at most 8.
    #[inline]
    pub fn window(self, offset: usize, len: usize) -> Result<u64, OutOfBounds> {
        debug_assert!(len <= 8);
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(OutOfBounds);
        }
        if len == 0 {
            return Ok(0);
        }
        // Both words are loaded whether the second is needed or not: where keys stand is chance, and a branch on it would be
        // mispredicted.
        let next = self.words.get(offset / 8 + 1).map_or(0, |word| word.load(Ordering::Relaxed));
        Ok(join(self.word(offset / 8)?, next, offset % 8) & (u64::MAX >> (64 - 8 * len)))
    }

    /// Appends `len` bytes at `offset` to `out`. On an error nothing is appended.
    pub fn append_to(self, offset: usize, len: usize, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        let words = self.words_around(offset, len)?;
        let start = out.len();
        out.resize(start + len, 0);
        copy_bytes(words, offset % 8, &mut out[start..]);
        Ok(())
    }

    /// Replaces the contents of `out` by `len` bytes at `offset`. On an error `out` stays as it was.
    #[inline]
    pub fn copy_to(self, offset: usize, len: usize, out: &mut Vec<u8>) -> Result<(), OutOfBounds> {
        let words = self.words_around(offset, len)?;
        // Not cleared before: what is there is written over, and bytes that were there need not be zeroed first.
        out.resize(len, 0);
        copy_bytes(words, offset % 8, out);
        Ok(())
    }

    /// The words in which a range of bytes stands.
    #[inline]
    fn words_around(self, offset: usize, len: usize) -> Result<&'a [AtomicU64], OutOfBounds> {
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;
        self.words(offset / 8..end.div_ceil(8))
    }

    /// Compares `len` bytes at `offset` with `key`, as unsigned bytes, shorter first.
    #[inline(always)]
    pub fn compare(self, offset: usize, len: usize, key: &[u8]) -> Result<Compare, OutOfBounds> {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(OutOfBounds);
        }
        // Most often the first eight bytes tell. Zeros stand for what a shorter one lacks: where they decide, it is the less.
        let first = self.eight_at(offset);
        let mine = if len >= 8 { first } else { first & !(u64::MAX >> (8 * len)) };
        let theirs = first_eight(key);
        if mine != theirs {
            return Ok(if mine < theirs { Compare::Less } else { Compare::Greater });
        }
        if len.min(key.len()) <= 8 {
            return Ok(len.cmp(&key.len()));
        }
        Ok(self.compare_long(offset, len, key))
    }

    /// Eight bytes in key order as an integer; zeros for those that the page has not.
    #[inline(always)]
    fn eight_at(self, offset: usize) -> u64 {
        // Both words are loaded whether the second is needed or not, as in `window`.
        let word = |index: usize| self.words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
        join(word(offset / 8), word(offset / 8 + 1), offset % 8).swap_bytes()
    }

    /// [`SpeculativePage::compare`] for two of more than eight bytes, of which the first eight are equal; the range lies inside the page.
    #[inline(never)]
    fn compare_long(self, offset: usize, len: usize, key: &[u8]) -> Compare {
        let common = len.min(key.len());
        let mut at = 8;
        while at < common {
            // The last eight bytes overlap those before, which are equal: lengths are chance, and a branch on one would be mispredicted.
            let from = at.min(common.saturating_sub(8));
            let (mine, theirs) = (self.eight_at(offset + from), first_eight(&key[from..]));
            if mine != theirs {
                return mine.cmp(&theirs);
            }
            at += 8;
        }
        len.cmp(&key.len())
    }

    /// Bits that `len` bytes at `offset` and `key` have in common at their beginnings, as if zeros without end followed both; none if
    /// they do not differ then.
    pub(crate) fn shared_bits(
        self,
        offset: usize,
        len: usize,
        key: &[u8],
    ) -> Result<Option<usize>, OutOfBounds> {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(OutOfBounds);
        }
        for at in (0..len.max(key.len())).step_by(8) {
            let mine = match len.saturating_sub(at) {
                0 => 0,
                left @ 1..8 => self.eight_at(offset + at) & !(u64::MAX >> (8 * left)),
                8.. => self.eight_at(offset + at),
            };
            let theirs = first_eight(key.get(at..).unwrap_or_default());
            if mine != theirs {
                return Ok(Some(8 * at + (mine ^ theirs).leading_zeros() as usize));
            }
        }
        Ok(None)
    }

    /// Copies the whole page into private memory of the same size.
    pub fn copy_out(self, out: &mut [u8]) {
        assert_eq!(out.len(), self.len(), "a page is copied whole");
        for (word, chunk) in self.words.iter().zip(out.as_chunks_mut::<8>().0) {
            *chunk = word.load(Ordering::Relaxed).to_le_bytes();
        }
    }

    /// As [`SpeculativePage::copy_out`], from the end to the beginning: for who goes through pages in the opposite order, so that the
    /// processor reads on in his direction.
    pub fn copy_out_backward(self, out: &mut [u8]) {
        assert_eq!(out.len(), self.len(), "a page is copied whole");
        for (word, chunk) in self.words.iter().zip(out.as_chunks_mut::<8>().0).rev() {
            *chunk = word.load(Ordering::Relaxed).to_le_bytes();
        }
    }

    /// What the page is, of its header.
    #[inline]
    pub fn kind(self) -> Result<PageKind, OutOfBounds> {
        Ok(PageKind((self.word(0)? >> 24) as u8))
    }

    /// The page's header.
    pub fn header(self) -> Result<PageHeader, OutOfBounds> {
        Ok(PageHeader::from_words([self.word(0)?, self.word(1)?, self.word(2)?, self.word(3)?]))
    }
}

/// The eight bytes that begin `skip` bytes, fewer than 8, into two words.
#[inline]
fn join(word: u64, next: u64, skip: usize) -> u64 {
    // In two steps: a shift by 64 would be one too far.
    word >> (8 * skip) | next << 1 << (63 - 8 * skip)
}

/// Copies the bytes that begin `skip` bytes, fewer than 8, into these words, which hold them all and none besides.
#[inline(always)]
fn copy_bytes(words: &[AtomicU64], skip: usize, out: &mut [u8]) {
    let load = |index: usize| words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
    let window = |at: usize| join(load(at / 8), load(at / 8 + 1), at % 8).to_le_bytes();
    let len = out.len();
    let Some(first) = out.first_chunk_mut::<8>() else {
        return out.iter_mut().zip(window(skip)).for_each(|(byte, read)| *byte = read);
    };
    *first = window(skip);
    // What follows is stored as it stands: only the ends lie across words. The last eight bytes overlap those before.
    let (middle, chunks) = (words.get(1..).unwrap_or_default(), &mut out[8 - skip..]);
    for (chunk, word) in chunks.as_chunks_mut::<8>().0.iter_mut().zip(middle) {
        *chunk = word.load(Ordering::Relaxed).to_le_bytes();
    }
    if let Some(last) = out.last_chunk_mut::<8>() {
        *last = window(skip + len - 8);
    }
}

/// The first eight bytes, in key order as an integer, with zeros for those that are not there.
#[inline]
pub(crate) fn first_eight(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => from_le_prefix(bytes).swap_bytes(),
    }
}

/// Fewer than eight bytes as the low bytes of a little-endian word; the rest is zero. Without a call of `memcpy`: keys end in
/// such bytes.
#[inline]
pub(crate) fn from_le_prefix(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    debug_assert!(len < 8);
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // The two overlap, and agree where they do.
        return u64::from(u32::from_le_bytes(*first))
            | u64::from(u32::from_le_bytes(*last)) << (8 * (len - 4));
    }
    let byte = |index: usize| u64::from(bytes[index]) << (8 * index);
    if len == 0 { 0 } else { byte(0) | byte(len / 2) | byte(len - 1) }
}

/// A page's bytes, to change. Whoever makes one holds the page exclusively; readers may be looking all the same.
#[derive(Clone, Copy)]
pub struct PageWriter<'a> {
    page: SpeculativePage<'a>,
}

impl std::fmt::Debug for PageWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageWriter({} bytes)", self.page.len())
    }
}

impl<'a> PageWriter<'a> {
    /// Over the words of a page that the caller holds exclusively.
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self { page: SpeculativePage::new(words) }
    }

    /// The reading side.
    #[inline]
    pub fn read(&self) -> SpeculativePage<'a> {
        self.page
    }

    /// Stores a whole word.
    #[inline]
    pub fn put_word(&self, index: usize, value: u64) -> Result<(), OutOfBounds> {
        match self.page.words.get(index) {
            Some(word) => {
                word.store(value, Ordering::Relaxed);
                Ok(())
            }
            None => Err(OutOfBounds),
        }
    }

    /// Stores the low `len` bytes of `value` at any offset; `len` is at most 8.
    #[inline]
    pub fn put_window(&self, offset: usize, value: u64, len: usize) -> Result<(), OutOfBounds> {
        debug_assert!(len <= 8);
        if len == 0 {
            return Ok(());
        }
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;
        if end > self.page.len() {
            return Err(OutOfBounds);
        }
        let mask = if len == 8 { u64::MAX } else { (1 << (8 * len)) - 1 };
        let value = value & mask;
        let (index, shift) = (offset / 8, 8 * (offset % 8));
        self.put_masked(index, value << shift, mask << shift)?;
        if offset % 8 + len > 8 {
            self.put_masked(index + 1, value >> (64 - shift), mask >> (64 - shift))?;
        }
        Ok(())
    }

    #[inline]
    fn put_masked(&self, index: usize, value: u64, mask: u64) -> Result<(), OutOfBounds> {
        let old = self.page.word(index)?;
        self.put_word(index, old & !mask | value)
    }

    /// Stores two bytes at an even offset.
    pub fn put_u16(&self, offset: usize, value: u16) -> Result<(), OutOfBounds> {
        self.put_window(offset, value.into(), 2)
    }

    /// Stores four bytes at a multiple of four.
    pub fn put_u32(&self, offset: usize, value: u32) -> Result<(), OutOfBounds> {
        self.put_window(offset, value.into(), 4)
    }

    /// Stores bytes at any offset.
    pub fn put_bytes(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let end = offset.checked_add(bytes.len()).ok_or(OutOfBounds)?;
        if end > self.page.len() {
            return Err(OutOfBounds);
        }
        let (first, rest) = bytes.split_at(offset.next_multiple_of(8).min(end) - offset);
        let (chunks, last) = rest.as_chunks::<8>();
        self.put_window(offset, from_le_prefix(first), first.len())?;
        let words = &self.page.words[offset.div_ceil(8).min(self.page.words.len())..];
        for (word, chunk) in words.iter().zip(chunks) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        self.put_window(end - last.len(), from_le_prefix(last), last.len())
    }

    /// Moves `len` bytes from `from` to `to`; the two may overlap.
    pub fn copy_within(&self, from: usize, to: usize, len: usize) -> Result<(), OutOfBounds> {
        let page = self.page.len();
        if from.checked_add(len).is_none_or(|end| end > page)
            || to.checked_add(len).is_none_or(|end| end > page)
        {
            return Err(OutOfBounds);
        }
        if to <= from {
            let mut done = 0;
            while done < len {
                let step = (len - done).min(8);
                self.put_window(to + done, self.page.window(from + done, step)?, step)?;
                done += step;
            }
        } else {
            let mut left = len;
            while left > 0 {
                let step = left.min(8);
                left -= step;
                self.put_window(to + left, self.page.window(from + left, step)?, step)?;
            }
        }
        Ok(())
    }

    /// Zeroes `len` bytes at `offset`.
    pub fn zero(&self, offset: usize, len: usize) -> Result<(), OutOfBounds> {
        let end = offset.checked_add(len).ok_or(OutOfBounds)?;
        if end > self.page.len() {
            return Err(OutOfBounds);
        }
        let first = offset.next_multiple_of(8).min(end);
        let last = (end - end % 8).max(first);
        self.put_window(offset, 0, first - offset)?;
        for word in &self.page.words[first.div_ceil(8)..last.div_ceil(8)] {
            word.store(0, Ordering::Relaxed);
        }
        self.put_window(last, 0, end - last)
    }

    /// Replaces the whole page by private bytes of the same size.
    pub fn copy_in(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.page.len(), "a page is copied whole");
        for (word, chunk) in self.page.words.iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
    }

    /// Zeroes the page and gives it a header.
    pub fn format(&self, kind: PageKind, id: PageId) {
        for word in &self.page.words[HEADER_WORDS..] {
            word.store(0, Ordering::Relaxed);
        }
        self.put_header(kind, id);
    }

    /// Gives the page a header and leaves what is behind it: for whoever writes all of that anew.
    pub fn put_header(&self, kind: PageKind, id: PageId) {
        for word in &self.page.words[..HEADER_WORDS] {
            word.store(0, Ordering::Relaxed);
        }
        let header = PageHeader::new(kind, id);
        self.page.words[0].store(header.first_word(), Ordering::Relaxed);
        self.page.words[ID_AT / 8].store(id.get(), Ordering::Relaxed);
    }

    /// Says what the page is.
    pub fn set_kind(&self, kind: PageKind) -> Result<(), OutOfBounds> {
        self.put_window(3, kind.0.into(), 1)
    }

    /// Says where the page's swips stand.
    pub fn set_swips(&self, swips: SwipArray) -> Result<(), OutOfBounds> {
        self.put_window(4, u64::from(swips.at_word) | u64::from(swips.count) << 16, 4)
    }

    /// Sets the page's LSN (L1).
    pub fn set_lsn(&self, lsn: Lsn) -> Result<(), OutOfBounds> {
        self.put_word(LSN_AT / 8, lsn.get())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(bytes: &[u8]) -> Vec<AtomicU64> {
        bytes.as_chunks::<8>().0.iter().map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect()
    }

    fn bytes(words: &[AtomicU64]) -> Vec<u8> {
        let mut out = vec![0; words.len() * 8];
        SpeculativePage::new(words).copy_out(&mut out);
        out
    }

    proptest! {
        /// Word by word is the same as byte by byte, wherever it begins and ends; past the end nothing is changed.
        #[test]
        fn any_range_reads_and_writes_as_a_slice_does(
            image in prop::collection::vec(any::<u8>(), 64),
            other in prop::collection::vec(prop::sample::select(&[0_u8, 1, 255][..]), 0..40),
            offset in 0..72_usize,
            from in 0..72_usize,
        ) {
            let words = words(&image);
            let mut backward = vec![0; 64];
            SpeculativePage::new(&words).copy_out_backward(&mut backward);
            prop_assert_eq!(&backward, &image);
            let (page, writer) = (SpeculativePage::new(&words), PageWriter::new(&words));
            let range = offset..offset + other.len();
            let mut out = vec![7];
            let slice = image.get(range.clone());
            let read = page.append_to(offset, other.len(), &mut out);
            prop_assert_eq!(read.is_ok(), slice.is_some());
            let before = vec![7; from];
            let mut copy = before.clone();
            prop_assert_eq!(page.copy_to(offset, other.len(), &mut copy), read);
            prop_assert_eq!(&copy[..], slice.unwrap_or(&before));
            if let Some(slice) = slice {
                prop_assert_eq!(&out[1..], slice);
                prop_assert_eq!(page.compare(offset, other.len(), &other), Ok(slice.cmp(&other)));
                let shorter = &other[..other.len() / 2];
                prop_assert_eq!(page.compare(offset, other.len(), shorter), Ok(slice.cmp(shorter)));
                prop_assert_eq!(page.compare(offset, shorter.len(), &other), Ok(slice[..shorter.len()].cmp(&other)));
                prop_assert_eq!(page.compare(offset, other.len(), slice), Ok(Compare::Equal));
            }
            let len = other.len().min(8);
            let mut low = [0; 8];
            match image.get(offset..offset + len) {
                None => prop_assert_eq!(page.window(offset, len), Err(OutOfBounds)),
                Some(slice) => {
                    low[..len].copy_from_slice(slice);
                    prop_assert_eq!(page.window(offset, len), Ok(u64::from_le_bytes(low)));
                }
            }
            let mut model = image.clone();
            if writer.copy_within(from, offset, other.len()).is_ok() {
                model.copy_within(from..from + other.len(), offset);
            }
            prop_assert_eq!(bytes(&words), &model[..]);
            let written = writer.put_bytes(offset, &other);
            prop_assert_eq!(written.is_ok(), range.end <= 64);
            if written.is_ok() {
                model[range.clone()].copy_from_slice(&other);
            }
            prop_assert_eq!(bytes(&words), &model[..]);
            if range.end <= 64 {
                writer.zero(offset, other.len()).unwrap();
                model[range].fill(0);
            }
            prop_assert_eq!(bytes(&words), &model[..]);
        }
    }
}
