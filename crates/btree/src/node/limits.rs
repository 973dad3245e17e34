//! How long keys and values may be.
//!
//! Invariant: of the two halves of a node that cannot hold an entry, the one that the entry goes to can, whatever the lengths.
//!
//! With a page of `P` bytes, fences and separators have at most `K = P / 8`. In a leaf the largest cell with its slot takes
//! `E = P / 4 - 52`, and headers and link take 80. All entries, the new one among them, are `T <= P - 80 + E`, and the boundary in
//! the middle leaves at most `T / 2 + E / 2` on either side; with two fences of `K` and the odd slot's 12 that is at most
//! `P / 2 - 40 + E + P / 4 + 12 = P - 80`. In an inner node an entry takes `E = P / 8 + 20`, and headers and links take 88. The
//! separator that moves up cannot be the new one, so a side has at most `T / 2 + E`; with fences and the odd slot's 20 that is
//! `P / 2 - 44 + 3 E / 2 + P / 4 + 20 = 15 P / 16 + 6`, less than `P - 88` from 4 KiB on. Where nodes have hints these take 64 more of
//! the page: a leaf's `E` is 32 less, so that its half is at most `P - 144`, and an inner half of at most `15 P / 16 - 26` is less than
//! `P - 152`. Prefixes only grow by a split.

use pagestone_page_format::PageSize;

use super::header::form;

/// The longest key of a tree, in bytes: an eighth of the page. An inner node so holds at least four separators.
///
/// Trees have pages of 4 KiB to 64 KiB.
pub const fn max_key_len(page_size: PageSize) -> usize {
    page_size.get() / 8
}

/// Key and value bytes of the largest cell of a leaf, so that a leaf whose fences are short holds four.
pub(super) const fn max_cell_len(page_size: PageSize) -> usize {
    page_size.get() / 4 - if form(true, page_size.get()).hints { 96 } else { 64 }
}

/// The longest value that is kept in the leaf of a key of this length, in bytes: with the key, about a quarter of the page.
pub const fn max_inline_value(page_size: PageSize, key_len: usize) -> usize {
    max_cell_len(page_size).saturating_sub(key_len)
}
