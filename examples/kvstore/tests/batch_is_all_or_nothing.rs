//! A batch of which a part is there is worse than none: a bad line, a value that is too long or a batch that is too large must
//! leave the store as it was.

mod support;

use kvstore::{KvStore, KvStoreOptions};

use support::Place;

fn filled() -> Place {
    let place = Place::new();
    place.run_with_stdin(["import"], b"a\t1\nb\t2\nc\t3\n").done();
    place
}

#[test]
fn lines_are_applied_together() {
    let place = filled();
    let lines = "{\"op\":\"put\",\"key\":\"d\",\"value\":\"4\"}\n{\"op\":\"del\",\"key\":\"a\"}\n\
                 {\"op\":\"del\",\"key\":\"no\"}\n{\"op\":\"put\",\"key_hex\":\"62\",\"value_base64\":\"/w==\"}\n\
                 {\"op\":\"put\",\"key\":\"e\",\"value\":\"5\"}\n{\"op\":\"del\",\"key\":\"e\"}\n";
    assert_eq!(place.run_with_stdin(["batch"], lines.as_bytes()).done(), "");
    assert_eq!(place.says(["export", "--tsv", "--hex"]), "62\tff\n63\t33\n64\t34\n");
    let again = place.run_with_stdin(["batch", "--json", "--sync", "-"], lines.as_bytes()).done();
    assert_eq!(again, "{\"inserted\":0,\"removed\":0,\"replaced\":2}\n");
    assert_eq!(place.run_with_stdin(["batch"], b"").done(), "");
}

#[test]
fn a_bad_line_undoes_the_lines_before_it() {
    let long = format!("{{\"op\":\"put\",\"key\":\"{}\",\"value\":\"v\"}}", "k".repeat(5000));
    for (bad, why) in [
        ("", "line 3: byte 0: EOF"),
        ("d\t4", "line 3: byte 1: expected value"),
        ("{\"op\":\"put\",\"key\":\"k\"}", "line 3: byte 22: no value"),
        (long.as_str(), "key of 5000 bytes"),
    ] {
        let place = filled();
        let lines = format!(
            "{{\"op\":\"del\",\"key\":\"a\"}}\n{{\"op\":\"put\",\"key\":\"d\",\"value\":\"4\"}}\n{bad}\n\
             {{\"op\":\"del\",\"key\":\"b\"}}\n"
        );
        let reason = place.run_with_stdin(["batch"], lines.as_bytes()).failed();
        assert!(reason.contains(why), "{bad}: {reason}");
        assert_eq!(place.says(["scan"]), "a\t1\nb\t2\nc\t3\n", "{bad}");
    }
}

#[test]
fn a_batch_that_is_too_large_changes_nothing() {
    let place = filled();
    // More leaves than a quarter of the pool, and more log than the largest group.
    let put = |number: u32| format!("{{\"key\":\"{number:06}\",\"value\":\"{}\"}}\n", "v".repeat(500));
    let lines: String = (0..20_000).map(put).collect();
    let reason = place.run_with_stdin(["batch", "--pool", "1MiB"], lines.as_bytes()).failed();
    assert!(reason.contains("batch"), "{reason}");
    assert_eq!(place.says(["scan"]), "a\t1\nb\t2\nc\t3\n");
    // More than is read into memory.
    let put = |number: u32| format!("{{\"key\":\"{number}\",\"value\":\"{}\"}}\n", "v".repeat(1 << 20));
    let lines: String = (0..65).map(put).collect();
    let reason = place.run_with_stdin(["batch"], lines.as_bytes()).failed();
    assert!(reason.contains("line 64: a batch of more than 67108864 bytes; nothing was changed"), "{reason}");
    assert_eq!(place.says(["scan"]), "a\t1\nb\t2\nc\t3\n");
}

#[test]
fn the_library_shows_nothing_of_it_before_and_all_of_it_after() {
    let place = Place::new();
    let options =
        KvStoreOptions { log_bytes: 4 << 20, segment_bytes: 256 << 10, ..KvStoreOptions::default() };
    let store = KvStore::open_with(place.store(), &options).expect("a store");
    store.put("old", "1").expect("put");
    let mut batch = store.batch();
    for number in 0..500_u32 {
        batch.put(number.to_be_bytes(), "value").expect("added");
    }
    batch.del("old").expect("added");
    assert_eq!(store.count().expect("counted"), 1);
    let mut refused = batch.clone();
    refused.put("k".repeat(5000), "").expect("added");
    refused.commit().expect_err("a key that is too long");
    assert_eq!(store.count().expect("counted"), 1);
    let done = batch.commit().expect("committed");
    assert_eq!((done.inserted, done.replaced, done.removed), (500, 0, 1));
    assert!(done.lsn.is_some_and(|lsn| store.tree().is_durable(lsn)), "strict: durable when it returns");
    assert_eq!((store.count().expect("counted"), batch.bytes()), (500, 0));
    drop((refused, batch, store)); // each of them keeps the lock
    let store = KvStore::open_with(place.store(), &options).expect("opened");
    assert_eq!(store.count().expect("counted"), 500);
}
