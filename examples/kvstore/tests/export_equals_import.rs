//! What is exported must come in again as it was, byte for byte, in every form and whatever the bytes are; or a copy of a
//! store is no copy.

mod support;

use std::fs;

use kvstore::{Durability, KvStore, KvStoreOptions};
use pagestone_testkit::Rng;

use support::Place;

/// Unique keys and values out of pieces that JSON, TSV or UTF-8 treat in their own ways.
fn entries(seed: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rng = Rng::new(seed);
    let pieces: [&[u8]; 14] = [
        b"a",
        b"text of some length",
        b"\"",
        b"\\",
        b"\\n",
        b"\n",
        b"\t",
        b"\0",
        b"\x1b",
        b"\x7f",
        "\u{e9}\u{1f980}\u{2028}\u{fffd}".as_bytes(),
        b"\xff",
        b"\xed\xa0\x80",
        b"\xf0\x9f",
    ];
    let bytes =
        |rng: &mut Rng| -> Vec<u8> { (0..rng.below(9)).flat_map(|_| *rng.pick(&pieces)).copied().collect() };
    let mut entries: std::collections::BTreeMap<Vec<u8>, Vec<u8>> =
        (0..1000).map(|_| (bytes(&mut rng), bytes(&mut rng))).collect();
    entries.insert(Vec::new(), Vec::new());
    entries.insert((0..=255).collect(), (0..=255).rev().collect());
    entries.into_iter().collect()
}

fn fill(place: &Place, entries: &[(Vec<u8>, Vec<u8>)]) {
    let options = KvStoreOptions { durability: Durability::RELAXED, ..KvStoreOptions::default() };
    let store = KvStore::open_with(place.store(), &options).expect("a store");
    for (key, value) in entries {
        store.put(key, value).expect("put");
    }
    store.close().expect("closed");
}

#[test]
fn any_bytes_come_back_in_every_form() {
    for seed in 0..3 {
        let (source, entries) = (Place::new(), entries(seed));
        fill(&source, &entries);
        for (export, import) in [
            (&["export"][..], &["import", "--json"][..]),
            (&["export", "--json"], &["import", "--format", "jsonl"]),
            (&["export", "--hex"], &["--json", "import", "-"]),
            (&["export", "--base64"], &["import", "-", "--json", "--hex"]),
            (&["export", "--tsv"], &["import"]),
            (&["export", "--format", "tsv"], &["import", "--format", "tsv", "--json"]),
            (&["export", "--tsv", "--hex"], &["import", "--hex"]),
            (&["export", "--tsv", "--base64"], &["import", "--base64"]),
        ] {
            let exported = source.run(export);
            assert_eq!((exported.code, exported.stderr.as_str()), (Some(0), ""));
            assert_eq!(exported.stdout.iter().filter(|byte| **byte == b'\n').count(), entries.len());

            let copy = Place::new();
            copy.run_with_stdin(import, &exported.stdout).done();
            assert!(
                copy.run(export).stdout == exported.stdout,
                "{export:?} and {import:?}: the lines differ"
            );
            let store = KvStore::open(copy.store()).expect("the copy");
            let found: Result<Vec<_>, _> = store.scan_all().collect();
            assert!(found.expect("scanned") == entries, "{export:?} and {import:?}: the entries differ");
        }
    }
}

#[test]
fn a_file_holds_what_stdout_would() {
    let (place, entries) = (Place::new(), entries(9));
    fill(&place, &entries);
    let file = place.path("entries.jsonl");
    fs::write(&file, "something older\n".repeat(100_000)).expect("written");
    assert_eq!(place.says(["export".as_ref(), "--output".as_ref(), file.as_os_str()]), "");
    assert!(fs::read(&file).expect("the file") == place.run(["export"]).stdout);
    place.run(["export".as_ref(), "--output".as_ref(), place.path("no/such/dir").as_os_str()]).failed();
    assert_eq!(
        place.run_with_stdin(["export", "--output", "/dev/stdout"], b"").stdout,
        place.run(["export"]).stdout
    );
}

#[test]
fn an_export_is_sorted_and_says_what_it_holds() {
    let place = Place::new();
    place.run_with_stdin(["import", "--hex"], b"62\t32\n61\t\nff\t00\n6101\t0a\n").done();
    assert_eq!(
        place.says(["export"]),
        "{\"key\":\"a\",\"value\":\"\"}\n\
         {\"key_base64\":\"YQE=\",\"value\":\"\\n\"}\n\
         {\"key\":\"b\",\"value\":\"2\"}\n\
         {\"key_base64\":\"/w==\",\"value_base64\":\"AA==\"}\n"
    );
    assert_eq!(place.says(["export"]), place.says(["scan", "--json"]));
    assert_eq!(place.says(["export", "--tsv", "--hex"]), place.says(["scan", "--hex"]));
    assert!(place.says(["export", "--hex"]).starts_with("{\"key_hex\":\"61\",\"value_hex\":\"\"}\n"));
}

#[test]
fn lines_are_applied_in_their_order() {
    let place = Place::new();
    let lines = "{\"key\":\"a\",\"value\":\"1\"}\n{\"op\":\"del\",\"key\":\"a\"}\n{\"op\":\"del\",\"key\":\"no\"}\n\
                 {\"op\":\"put\",\"key\":\"b\",\"value\":\"1\"}\n{\"value\":\"2\",\"key\":\"b\"}";
    for sync in [None, Some("--sync")] {
        let acknowledged =
            place.run_with_stdin(["import", "--json", "--ack"].iter().chain(&sync), lines.as_bytes());
        let key = |key| format!("{{\"key\":\"{key}\"}}\n");
        assert_eq!(acknowledged.done(), ["a", "a", "no", "b", "b"].map(key).concat());
        assert_eq!(place.says(["scan"]), "b\t2\n", "of two lines with one key the last wins");
    }
}
