//! Prevents: a page that is not what was written and is believed all the same (M1, M6, M8, R3).

mod support;

use pagestone_page_format::ChecksumKind;
use support::{Damage, Files, Random, Tally};

const KINDS: [ChecksumKind; 2] = [ChecksumKind::Crc32c, ChecksumKind::Crc64Nvme];
/// Damages of all kinds under each checksum to pages of these sizes: ten million in all.
const ROUNDS: [(usize, u64); 3] = [(4096, 4_900_000), (16384, 90_000), (1 << 20, 10_000)];

#[test]
fn ten_million_random_damages_are_told() {
    std::thread::scope(|scope| {
        for (seed, kind) in KINDS.into_iter().enumerate() {
            scope.spawn(move || {
                for (size, rounds) in ROUNDS {
                    let mut random = Random(seed as u64);
                    let mut files = Files::new(kind, size, &mut random);
                    let mut tally = Tally::new();
                    for round in 0..rounds {
                        tally.strike(&mut files, &mut random);
                        assert_eq!(
                            tally.undetected, 0,
                            "{kind:?}, pages of {size}, seed {seed}, round {round}"
                        );
                    }
                    assert_eq!(tally.damages(), rounds);
                    for damage in Damage::ALL {
                        assert!(tally.counts[damage as usize] > 0, "{damage:?} never befell pages of {size}");
                    }
                }
            });
        }
    });
    let damages: u64 = ROUNDS.iter().map(|(_, rounds)| rounds * KINDS.len() as u64).sum();
    assert_eq!(damages, 10_000_000);
}

/// Nothing by lot: each bit, and a burst of 32 bits from each.
#[test]
fn every_bit_and_every_burst_of_32_in_a_page_is_covered() {
    for kind in KINDS {
        for size in [4096, 16384] {
            let mut random = Random(size as u64);
            let mut files = Files::new(kind, size, &mut random);
            for from in 0..files.bits() {
                assert!(files.burst(from, 1, &mut random), "{kind:?}, pages of {size}, bit {from}");
                let len = (files.bits() - from).min(32);
                assert!(files.burst(from, len, &mut random), "{kind:?}, pages of {size}, burst from {from}");
            }
        }
    }
}

/// In pages of every size, and of the smallest a burst of every length.
#[test]
fn bursts_of_every_length_in_pages_of_every_size_are_covered() {
    for kind in KINDS {
        for log2 in 12..=20 {
            let mut random = Random(log2);
            let mut files = Files::new(kind, 1 << log2, &mut random);
            for round in 0..1_000_000_u64 >> (log2 - 10) {
                let len = 1 + round % 32;
                let from = random.below(files.bits() - len + 1);
                assert!(
                    files.burst(from, len, &mut random),
                    "{kind:?}, pages of 2^{log2}, {len} bits from {from}"
                );
            }
        }
    }
}

#[test]
fn truncation_at_every_length_is_a_short_read() {
    for kind in KINDS {
        let files = Files::new(kind, 4096, &mut Random(3));
        assert!((0..4096).all(|len| files.truncated(len)));
    }
}
