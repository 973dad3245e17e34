//! A script that reads the command's output or its exit code must not break: TSV and JSON lines, bare values, 0, 1 and 2.

mod support;

use support::{Place, figure};

fn filled() -> Place {
    let place = Place::new();
    for (key, value) in [("a", "1"), ("b", "2"), ("ba", "3"), ("c", "4")] {
        assert_eq!(place.says(["put", key, value]), "");
    }
    place
}

#[test]
fn a_value_is_put_replaced_got_and_deleted() {
    let place = Place::new();
    assert_eq!(place.says(["put", "key", "value"]), "");
    assert_eq!(place.says(["get", "key"]), "value\n");
    assert_eq!(place.says(["put", "--sync", "key", "other"]), "");
    assert_eq!(place.says(["get", "key"]), "other\n");
    assert_eq!(place.says(["put", "empty", ""]), "");
    assert_eq!(place.says(["get", "empty"]), "\n");
    assert_eq!(place.says(["put", "", "of the empty key"]), "");
    assert_eq!(place.says(["get", ""]), "of the empty key\n");
    assert_eq!(place.says(["del", "key"]), "");
    place.run(["get", "key"]).missing();
    place.run(["del", "key"]).missing();
    place.run(["get", "--json", "key"]).missing();
    assert_eq!(place.says(["count"]), "2\n");
}

#[test]
fn scans_are_in_order_and_cut_where_asked() {
    let place = filled();
    assert_eq!(place.says(["scan"]), "a\t1\nb\t2\nba\t3\nc\t4\n");
    assert_eq!(place.says(["scan", "--reverse"]), "c\t4\nba\t3\nb\t2\na\t1\n");
    assert_eq!(place.says(["scan", "--prefix", "b"]), "b\t2\nba\t3\n");
    assert_eq!(place.says(["scan", "--prefix", "b", "--reverse", "--limit", "1"]), "ba\t3\n");
    assert_eq!(place.says(["scan", "--prefix", "x"]), "");
    assert_eq!(place.says(["scan", "--limit", "0"]), "");
    assert_eq!(place.says(["scan", "--limit", "2"]), "a\t1\nb\t2\n");
    assert_eq!(place.says(["range", "b", "c"]), "b\t2\nba\t3\n");
    assert_eq!(place.says(["range", "aa", "z"]), "b\t2\nba\t3\nc\t4\n");
    assert_eq!(place.says(["range", "--reverse", "a", "c"]), "ba\t3\nb\t2\na\t1\n");
    assert_eq!(place.says(["range", "c", "b"]), "");
    assert_eq!(place.says(["range", "b", "b"]), "");
    assert_eq!(place.says(["count"]), "4\n");
}

#[test]
fn json_is_one_object_a_line() {
    let place = filled();
    assert_eq!(place.says(["get", "a", "--json"]), "{\"key\":\"a\",\"value\":\"1\"}\n");
    assert_eq!(
        place.says(["--json", "range", "b", "c"]),
        "{\"key\":\"b\",\"value\":\"2\"}\n{\"key\":\"ba\",\"value\":\"3\"}\n"
    );
    assert_eq!(place.says(["count", "--json"]), "{\"count\":4}\n");
    assert_eq!(place.says(["put", "--json", "a", "x"]), "{\"replaced\":true}\n");
    assert_eq!(place.says(["put", "--json", "tab\tquote\"", "line\n"]), "{\"replaced\":false}\n");
    assert_eq!(
        place.says(["scan", "--json", "--prefix", "tab"]),
        "{\"key\":\"tab\\tquote\\\"\",\"value\":\"line\\n\"}\n"
    );
    // No UTF-8.
    assert_eq!(place.says(["put", "--hex", "ff00", "80"]), "");
    assert_eq!(
        place.says(["get", "--json", "--base64", "/wA="]),
        "{\"key_base64\":\"/wA=\",\"value_base64\":\"gA==\"}\n"
    );
    assert_eq!(
        place.says(["scan", "--json", "--reverse", "--limit", "1"]),
        "{\"key_base64\":\"/wA=\",\"value_base64\":\"gA==\"}\n"
    );
    let stats = place.says(["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    assert!(
        stats["page_bytes"] == 4096 && stats["evictions"].is_u64() && stats["splits"].is_u64(),
        "{stats}"
    );
}

#[test]
fn global_flags_stand_anywhere_and_sizes_have_units() {
    let place = filled();
    assert_eq!(
        place.says(["--json", "--pool", "1MiB", "get", "a"]),
        place.says(["get", "--pool", "1048576", "a", "--json"])
    );
    assert_eq!(place.says(["get", "--hex", "61"]), "31\n");
    assert_eq!(place.says(["--base64", "get", "YQ=="]), "MQ==\n");
    assert_eq!(place.says(["scan", "--hex", "--limit", "1"]), "61\t31\n");
}

#[test]
fn figures_have_names() {
    let place = filled();
    let stats = place.says(["stats"]);
    for name in ["evictions", "splits", "evictions_total", "splits_total", "page_bytes", "tree_height"] {
        figure(&stats, name);
    }
    for name in [
        "latch_shared_waits_total",
        "latch_exclusive_waits_total",
        "pool_read_microseconds_count",
        "log_batch_bytes_sum",
        "allocator_free_pages",
        "tree_conflicts_total",
    ] {
        figure(&stats, name);
    }
    let prometheus = place.says(["stats", "--prometheus"]);
    assert!(
        prometheus.contains("# TYPE pagestone_evictions_total counter\npagestone_evictions_total "),
        "{prometheus}"
    );
    assert!(
        prometheus.contains(
            "# TYPE pagestone_latch_exclusive_waits_total counter\npagestone_latch_exclusive_waits_total "
        ),
        "{prometheus}"
    );
    assert_eq!(place.says(["checkpoint"]), "");
    assert_eq!(place.says(["sync"]), "");
}

#[test]
fn a_store_that_lost_most_of_its_entries_is_made_small() {
    let place = Place::new();
    let lines = |numbers: std::ops::Range<u32>| -> String {
        numbers.map(|number| format!("{number:05}\t{}\n", "v".repeat(100))).collect()
    };
    std::fs::write(place.path("rows"), lines(0..4000)).expect("written");
    place.says(["import", place.path("rows").to_str().expect("UTF-8")]);
    let removals: String =
        (0..3900_u32).map(|number| format!("{{\"op\":\"del\",\"key\":\"{number:05}\"}}\n")).collect();
    for (piece, part) in removals.lines().collect::<Vec<_>>().chunks(500).enumerate() {
        let file = place.path(&format!("removals-{piece}"));
        std::fs::write(&file, part.join("\n")).expect("written");
        place.says(["batch", file.to_str().expect("UTF-8")]);
    }
    let said = place.says(["compact"]);
    let (before, after) = (figure(&said, "bytes_before"), figure(&said, "bytes_after"));
    assert!(after < 100_000 && after < before, "{said}");
    for name in ["freed_pages", "moved_pages", "moved_value_pages", "took_microseconds"] {
        figure(&said, name);
    }
    let again: serde_json::Value = serde_json::from_str(&place.says(["compact", "--json"])).expect("JSON");
    assert!(again["bytes_before"].as_u64() <= Some(after) && again["bytes_after"].is_u64(), "{again}");
    assert_eq!(place.says(["scan"]), lines(3900..4000));
    place.says(["verify"]);
}

#[test]
fn what_makes_no_sense_exits_2() {
    let place = filled();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["get"],
        &["put", "k"],
        &["get", "k", "--pool", "lots"],
        &["get", "k", "--pool", "1"],
        &["get", "k", "--log", "1"],
        &["get", "--hex", "xyz"],
        &["get", "--base64", "?"],
        &["--hex", "get", "61", "--base64"],
        &["scan", "--limit", "-1"],
        &["import", "/no/such/file"],
        &["import", "--format", "csv", "-"],
        &["export", "--format", "csv"],
        &["export", "--format", "jsonl", "--tsv"],
        &["put", "k", "v", "--value-file", "-"],
        &["put", "k", "--value-file", "/no/such/file"],
        &["get", "a", "--output", "/no/such/file"],
    ] {
        place.run(arguments).failed();
    }
    let long = "k".repeat(5000);
    assert!(place.run(["put", &long, "v"]).failed().contains("key of 5000 bytes"));
    place.run(["get", &long]).missing();
    assert_eq!(place.says(["count"]), "4\n", "nothing of this changed anything");
}

#[test]
fn only_put_and_import_make_a_store() {
    let place = Place::new();
    for arguments in [
        &["get", "k"][..],
        &["del", "k"],
        &["scan"],
        &["export"],
        &["range", "a", "b"],
        &["count"],
        &["stats"],
        &["sync"],
        &["checkpoint"],
    ] {
        assert!(place.run(arguments).failed().contains("no store at "), "{arguments:?}");
        assert!(!place.store().exists(), "{arguments:?}");
    }
    place.run(["import", "/no/such/file"]).failed();
    place.run(["put", "--hex", "k", "v"]).failed();
    assert!(!place.store().exists(), "what cannot be read makes no store");
    assert_eq!(place.run_with_stdin(["import", "-"], b"").done(), "");
    assert_eq!(place.says(["count"]), "0\n");
}
