//! Runs of bits in words, from both sides: which words a run reaches over, and which runs some words hold.
//!
//! Invariant: bit `i` of a map is bit `i % 64` of word `i / 64`; a run is as long as it can be.

/// The words that a run of bits reaches over, with the bits of each.
pub(crate) fn masks(from: u64, len: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = from + len;
    (from / 64..end.div_ceil(64)).map(move |word| {
        let (low, high) = (from.max(word * 64) - word * 64, end.min(word * 64 + 64) - word * 64);
        (word as usize, (u64::MAX >> (64 - (high - low))) << low)
    })
}

/// The runs of set bits in these words: where each starts and how long it is.
pub(crate) fn runs(words: impl Iterator<Item = u64>) -> impl Iterator<Item = (u64, u64)> {
    let mut words = words.enumerate();
    let (mut word, mut at) = (0, 0);
    let mut open: Option<(u64, u64)> = None;
    std::iter::from_fn(move || {
        loop {
            if word == 0 {
                let Some((index, next)) = words.next() else { return open.take() };
                (word, at) = (next, index as u64 * 64);
                if word == 0 {
                    if open.is_some() {
                        return open.take();
                    }
                    continue;
                }
            }
            let zeros = u64::from(word.trailing_zeros());
            let start = at + zeros;
            let shifted = word >> zeros;
            let len = u64::from(shifted.trailing_ones());
            word = shifted.checked_shr(len as u32).unwrap_or(0);
            at = start + len;
            match &mut open {
                Some((first, so_far)) if *first + *so_far == start => *so_far += len,
                Some(_) => return open.replace((start, len)),
                None => open = Some((start, len)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn masks_are_the_bits_of_the_run(from in 0_u64..500, len in 1_u64..300) {
            let mut words = [0; 13];
            for (word, mask) in masks(from, len) {
                prop_assert!(mask != 0 && words[word] == 0, "each word once");
                words[word] = mask;
            }
            prop_assert_eq!(runs(words.into_iter()).collect::<Vec<_>>(), [(from, len)]);
        }

        #[test]
        fn runs_are_the_set_bits(words in proptest::collection::vec(
            prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 0..6))
        {
            let mut found = vec![];
            let mut end = None;
            for (start, len) in runs(words.iter().copied()) {
                prop_assert!(len > 0 && end.is_none_or(|end| end < start), "runs are whole");
                end = Some(start + len);
                found.extend(start..start + len);
            }
            let set = |bit: &u64| words[(bit / 64) as usize] >> (bit % 64) & 1 == 1;
            let wanted: Vec<u64> = (0..words.len() as u64 * 64).filter(set).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
