//! Keys and values are bytes: tabs, line ends, backslashes and what is no UTF-8 must come out as they went in, and what a scan
//! prints must be what an import takes.

mod support;

use support::Place;

use kvstore::{Durability, KvStore, KvStoreOptions};
use pagestone_testkit::Rng;

/// Unique keys of arbitrary bytes, rich in those that are escaped; values likewise.
fn entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rng = Rng::new(77);
    let bytes = |rng: &mut Rng, len: u64| -> Vec<u8> {
        (0..len)
            .map(|_| if rng.chance(100) { *rng.pick(b"\t\n\\tn\r\0") } else { rng.next_u64() as u8 })
            .collect()
    };
    let mut entries: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = (0..2000)
        .map(|_| {
            let (key_len, value_len) = (rng.below(40), rng.below(60));
            (bytes(&mut rng, key_len), bytes(&mut rng, value_len))
        })
        .collect();
    entries.insert(Vec::new(), b"of the empty key".to_vec());
    entries.insert((0..=255).collect(), (0..=255).rev().collect());
    entries.into_iter().collect()
}

#[test]
fn a_scan_can_be_imported_in_every_encoding() {
    let source = Place::new();
    let options = KvStoreOptions { durability: Durability::RELAXED, ..KvStoreOptions::default() };
    let store = KvStore::open_with(source.store(), &options).expect("a store");
    let mut entries = entries();
    Rng::new(78).shuffle(&mut entries);
    for (key, value) in &entries {
        store.put(key, value).expect("put");
    }
    store.close().expect("closed");
    drop(store); // and with it the lock
    entries.sort_unstable();

    for encoding in [None, Some("--hex"), Some("--base64")] {
        let scan = source.run(["scan"].iter().chain(&encoding));
        assert_eq!(scan.code, Some(0), "{}", scan.stderr);
        assert_eq!(scan.stdout.iter().filter(|byte| **byte == b'\n').count(), entries.len());

        let copy = Place::new();
        copy.run_with_stdin(["import", "-"].iter().chain(&encoding), &scan.stdout).done();
        let again = copy.run(["scan"].iter().chain(&encoding));
        assert!(again.stdout == scan.stdout, "{encoding:?}: the scan of the copy differs");

        let copied = KvStore::open(copy.store()).expect("the copy");
        let found: Result<Vec<_>, _> = copied.scan_all().collect();
        assert!(found.expect("scanned") == entries, "{encoding:?}: the copy differs");
    }
}

#[test]
fn a_value_is_printed_as_it_is() {
    let place = Place::new();
    let odd = "a\tb\\n\n\\\r end ";
    place.run(["put", odd, odd]).done();
    assert_eq!(place.says(["get", odd]), format!("{odd}\n"));
    assert_eq!(place.says(["scan"]), "a\\tb\\\\n\\n\\\\\r end \ta\\tb\\\\n\\n\\\\\r end \n");
}

#[cfg(unix)]
#[test]
fn arguments_need_not_be_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    let (key, value) = (OsStr::from_bytes(b"\xff\xfekey"), OsStr::from_bytes(b"\x80"));
    place.run([OsStr::new("put"), key, value]).done();
    assert_eq!(place.run([OsStr::new("get"), key]).stdout, b"\x80\n");
    assert_eq!(place.says(["scan", "--hex"]), "fffe6b6579\t80\n");
}
