//! Prevents: a page that is not what was written and is believed all the same (M1, M6, M8, R3).

mod support;

use pagestone_page_format::ChecksumKind;
use support::{Files, Random};

/// Damages of all kinds to pages of 4 KiB under each checksum.
const ROUNDS: u64 = 5_000_000;

#[test]
fn ten_million_random_damages_are_told() {
    std::thread::scope(|scope| {
        for (kind, seed) in [(ChecksumKind::Crc32c, 1), (ChecksumKind::Crc64Nvme, 2)] {
            scope.spawn(move || {
                let mut random = Random(seed);
                let mut files = Files::new(kind, 4096, &mut random);
                for round in 0..ROUNDS {
                    let told = match round % 16 {
                        0 => files.misdirected(&mut random),
                        1 => files.foreign(&mut random),
                        2 => files.torn(&mut random),
                        3..8 => files.burst(1, &mut random),
                        _ => {
                            let len = 2 + random.below(31);
                            files.burst(len, &mut random)
                        }
                    };
                    assert!(told, "{kind:?}, seed {seed}, round {round}");
                }
            });
        }
    });
}

#[test]
fn every_single_bit_of_a_page_of_each_size_is_covered() {
    for log2 in 12..=20 {
        let mut random = Random(log2);
        let mut files = Files::new(ChecksumKind::Crc32c, 1 << log2, &mut random);
        for round in 0..2_000_000_u64 >> (log2 - 10) {
            assert!(files.burst(1, &mut random), "pages of 2^{log2}, round {round}");
        }
    }
}

#[test]
fn truncation_at_every_length_is_a_short_read() {
    let files = Files::new(ChecksumKind::Crc32c, 4096, &mut Random(3));
    assert!((0..4096).all(|len| files.truncated(len)));
}
