//! A line that cannot be read must not pass for data, and must not take the lines before it with it.

mod support;

use std::fs;
use std::io::Write;

use support::Place;

#[test]
fn a_bad_line_is_named_by_its_number() {
    let long = format!("{}\tv", "k".repeat(2000));
    for (bad, why) in [
        ("no tab here", "no tab"),
        ("", "no tab"),
        ("key\tvalue\tmore", "second tab"),
        (long.as_str(), "key of 2000 bytes"),
    ] {
        let place = Place::new();
        let input = format!("a\t1\nb\t2\n{bad}\nc\t3\n");
        for sync in [None, Some("--sync")] {
            let reason = place.run_with_stdin(["import", "-"].iter().chain(&sync), input.as_bytes()).failed();
            assert!(reason.contains("line 3") && reason.contains(why), "{reason}");
            assert_eq!(place.says(["scan"]), "a\t1\nb\t2\n");
        }
        let acknowledged = place.run_with_stdin(["import", "-", "--ack"], input.as_bytes());
        assert_eq!((acknowledged.code, acknowledged.stdout.as_slice()), (Some(2), &b"a\nb\n"[..]));
    }
}

#[test]
fn bytes_that_are_not_in_the_encoding_are_named_too() {
    let place = Place::new();
    assert!(
        place
            .run_with_stdin(["import", "-", "--hex"], b"61\t62\n6\t6\n")
            .failed()
            .contains("line 2: not hexadecimal")
    );
    assert!(
        place
            .run_with_stdin(["import", "-", "--base64"], b"YQ==\tY\n")
            .failed()
            .contains("line 1: not base64")
    );
    assert_eq!(place.says(["scan"]), "a\tb\n");
}

#[test]
fn a_bad_json_line_is_named_by_its_number_and_its_byte() {
    for (bad, why) in [
        ("", "EOF while parsing a value"),
        ("key\tvalue", "expected value"),
        ("[\"key\",\"value\"]", "expected an object with a key and a value"),
        ("{\"key\":\"k\"}", "no value"),
        ("{\"key\":\"k\",\"value\":1}", "expected a text"),
        ("{\"key\":\"k\",\"value\":\"v\",\"key_hex\":\"6b\"}", "a member for the second time"),
        ("{\"key\":\"k\",\"value_hex\":\"0\"}", "not hexadecimal"),
        ("{\"op\":\"delete\",\"key\":\"k\"}", "expected \"put\" or \"del\""),
        ("{\"key\":\"k\",\"value\":\"v", "EOF while parsing a string"),
        ("{\"key\":\"\u{1}\",\"value\":\"v\"}", "control character"),
    ] {
        let place = Place::new();
        let put = |key| format!("{{\"key\":\"{key}\",\"value\":\"1\"}}\n");
        let input = [put("a"), put("b"), format!("{bad}\n"), put("c")].concat();
        let reason = place.run_with_stdin(["import", "--json"], input.as_bytes()).failed();
        assert!(reason.contains("line 3: byte ") && reason.contains(why), "{bad}: {reason}");
        assert!(reason.contains("what came before it was kept"), "{reason}");
        assert_eq!(place.says(["scan"]), "a\t1\nb\t1\n");
    }
}

#[test]
fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
    let place = Place::new();
    for (form, first) in [("tsv", &b"a\t1\n"[..]), ("jsonl", b"{\"key\":\"a\",\"value\":\"1\"}\n")] {
        let path = place.path(form);
        let mut file = fs::File::create(&path).expect("made");
        file.write_all(first).expect("written");
        file.set_len(1 << 30).expect("a hole");
        let import = ["import".as_ref(), "--format".as_ref(), form.as_ref(), path.as_os_str()];
        let reason = place.run(import).failed();
        assert!(reason.contains("line 2: more than 134283264 bytes"), "{reason}");
        assert_eq!(place.says(["scan"]), "a\t1\n");
    }
}

#[test]
fn a_directory_is_no_file_of_lines() {
    let place = Place::new();
    place.run(["import".as_ref(), place.path("").as_os_str()]).failed();
    assert!(!place.store().exists());
}
