//! Hints stay in memory.
//!
//! Invariant: an image that was masked is the same bytes wherever its pages stood, and refers to the same pages.

use std::ops::Range;

use pagestone_page_format::{OutOfBounds, PAGE_HEADER_SIZE, PageHeader};

use crate::SwipWord;

/// Masks the hint out of every swip of a page image, found by the `swips` of its header. Takes the whole page, and changes
/// nothing but the array; the checksum is stamped afterwards.
///
/// [`OutOfBounds`], and nothing changed, if the header places the array over itself or past the end of the page.
pub fn mask_hints(page: &mut [u8]) -> Result<(), OutOfBounds> {
    let array = swips_of(page)?;
    for bytes in page[array].as_chunks_mut::<8>().0 {
        *bytes = SwipWord::from_raw(u64::from_le_bytes(*bytes)).without_hint().raw().to_le_bytes();
    }
    Ok(())
}

/// Whether [`mask_hints`] would take this page: one that it would not could be read, and never be written.
pub fn check_swips(page: &[u8]) -> Result<(), OutOfBounds> {
    swips_of(page).map(drop)
}

/// The bytes of the array, which lie inside the page and behind its header.
fn swips_of(page: &[u8]) -> Result<Range<usize>, OutOfBounds> {
    let swips = PageHeader::decode(page).ok_or(OutOfBounds)?.swips;
    let first = usize::from(swips.at_word) * 8;
    let array = first..first + usize::from(swips.count) * 8;
    match swips.count {
        0 => Ok(0..0),
        _ if first < PAGE_HEADER_SIZE || array.end > page.len() => Err(OutOfBounds),
        _ => Ok(array),
    }
}

#[cfg(test)]
mod tests {
    use pagestone_page_format::{FrameIndex, PageId, PageKind, SwipArray};
    use proptest::prelude::*;

    use super::*;

    fn image(at_word: u16, count: u16, len: usize) -> Vec<u8> {
        let mut page: Vec<u8> = (0..len).map(|at| (at * 31 + 7) as u8).collect();
        let mut header = PageHeader::new(PageKind::INNER, PageId::new(5));
        header.swips = SwipArray { at_word, count };
        header.encode(&mut page);
        page
    }

    #[test]
    fn masked_images_do_not_depend_on_frames() {
        let mut images = [image(4, 3, 4096), image(4, 3, 4096)];
        for (salt, page) in images.iter_mut().enumerate() {
            for slot in 0..3 {
                let swip = SwipWord::new(PageId::new(40 + slot as u64)).expect("in range");
                let swip =
                    if (slot + salt) % 2 == 0 { swip } else { swip.with_hint(FrameIndex::new(salt as u32)) };
                page[32 + 8 * slot..40 + 8 * slot].copy_from_slice(&swip.raw().to_le_bytes());
            }
            mask_hints(page).expect("well formed");
        }
        assert_eq!(images[0], images[1]);
        let first = u64::from_le_bytes(*images[0][32..].first_chunk().expect("eight bytes"));
        assert_eq!(SwipWord::from_raw(first), SwipWord::new(PageId::new(40)).expect("in range"));
    }

    #[test]
    fn arrays_outside_the_page_or_over_the_header_are_refused() {
        for (at_word, count, fits) in [
            (512, 1, false),
            (511, 1, true),
            (511, 2, false),
            (3, 1, false),
            (0, 9, false),
            (0, 0, true),
            (u16::MAX, u16::MAX, false),
        ] {
            let mut page = image(at_word, count, 4096);
            let before = page.clone();
            assert_eq!(mask_hints(&mut page).is_ok(), fits, "{at_word} {count}");
            assert!(fits || page == before);
        }
        assert_eq!(mask_hints(&mut [0; 31]), Err(OutOfBounds));
    }

    proptest! {
        #[test]
        fn nothing_but_the_array_changes(at_word in 0..600u16, count in 0..600u16) {
            let mut page = image(at_word, count, 4096);
            let before = page.clone();
            let would_be_masked = check_swips(&page).is_ok();
            let masked = mask_hints(&mut page).is_ok();
            prop_assert_eq!(masked, would_be_masked);
            if masked && count > 0 {
                let array = usize::from(at_word) * 8..usize::from(at_word + count) * 8;
                prop_assert_eq!(&page[..array.start], &before[..array.start]);
                prop_assert_eq!(&page[array.end..], &before[array.end..]);
            } else {
                prop_assert_eq!(page, before);
            }
        }
    }
}
