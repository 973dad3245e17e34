//! A line that cannot be read must not pass for data, and must not take the lines before it with it.

mod support;

use support::Place;

#[test]
fn a_bad_line_is_named_by_its_number() {
    let long = format!("k\t{}", "v".repeat(2000));
    let endless = "x".repeat(1 << 20);
    for (bad, why) in [
        ("no tab here", "no tab"),
        ("", "no tab"),
        ("key\tvalue\tmore", "second tab"),
        (long.as_str(), "value of 2000 bytes"),
        (endless.as_str(), "longer than any entry"),
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
fn a_directory_is_no_file_of_lines() {
    let place = Place::new();
    place.run(["import".as_ref(), place.path("").as_os_str()]).failed();
    assert!(!place.store().exists());
}
