//! A distribution's package index must come out as it went in, with a pool that holds all of it or a fraction; and what was
//! deleted must make room for what comes next, or the file grows for ever.
//!
//! The index is a sample of the shape of a real one; `scripts/packages-to-jsonl.sh` makes lines of the real one.

#[path = "support/packages.rs"]
mod packages;
mod support;

use std::collections::BTreeMap;
use std::fs;

use pagestone_testkit::Rng;

use packages::{del_lines, packages, put_lines};
use support::{Place, figure};

const STANZAS: u64 = 3000;

/// The keys in no order.
fn shuffled(index: &BTreeMap<String, String>, seed: u64) -> Vec<&String> {
    let mut keys: Vec<&String> = index.keys().collect();
    Rng::new(seed).shuffle(&mut keys);
    keys
}

fn import(place: &Place, pool: &str, lines: &str) {
    place.run_with_stdin(["import", "--json", "--pool", pool], lines.as_bytes()).done();
}

#[test]
fn the_index_comes_out_sorted_and_whole() {
    let index = packages(STANZAS, 1);
    for pool in ["256MiB", "2MiB"] {
        let place = Place::new();
        import(&place, pool, &put_lines(&index, shuffled(&index, 2)));
        let exported = place.says(["export", "--pool", pool]);
        assert!(exported == put_lines(&index, index.keys()), "pool {pool}: another index came out");
        assert_eq!(place.says(["count", "--pool", pool]), format!("{STANZAS}\n"));
        place.says(["verify", "--pool", pool]);
    }
}

#[test]
fn what_is_deleted_makes_room_for_what_comes() {
    let index = packages(STANZAS, 3);
    for (round, pool) in ["256MiB", "2MiB"].into_iter().enumerate() {
        let place = Place::new();
        let length = || fs::metadata(place.store().join("data")).expect("the data file").len();
        import(&place, pool, &put_lines(&index, shuffled(&index, 4)));
        let before = length();

        let keys = shuffled(&index, 5 + round as u64);
        let (half, kept) = keys.split_at(keys.len() / 2);
        import(&place, pool, &del_lines(half.iter().copied()));
        let verified = place.says(["verify"]);
        assert_eq!(figure(&verified, "entries"), kept.len() as u64);
        assert!(figure(&verified, "free_pages") > 0, "{verified}");
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        assert!(place.says(["export"]) == put_lines(&index, kept), "pool {pool}: another half was kept");

        import(&place, pool, &put_lines(&index, half.iter().copied()));
        let after = length();
        assert!(
            place.says(["export"]) == put_lines(&index, index.keys()),
            "pool {pool}: another index came out"
        );
        place.says(["verify"]);
        println!("pool {pool}: {before} bytes, after a half was deleted and came again {after} bytes");
        assert!(after * 10 <= before * 11, "pool {pool}: {before} bytes became {after}");
    }
}
