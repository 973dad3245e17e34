//! `kvstore scan | head` must end without a panic and without a word, and an import whose acknowledgements nobody reads must
//! not pass for a whole one.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use support::{Place, listing};

#[test]
fn a_scan_whose_reader_leaves_ends_quietly() {
    let place = Place::new();
    place.run_with_stdin(["import", "-"], (listing(20_000).join("\n") + "\n").as_bytes()).done();
    for arguments in [&["scan"][..], &["scan", "--json", "--reverse"], &["range", "/", "0"]] {
        let mut command = place.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut first = String::new();
        BufReader::with_capacity(64, child.stdout.take().expect("piped"))
            .read_line(&mut first)
            .expect("a line");
        assert!(!first.is_empty());
        let status = child.wait().expect("ended");
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("read");
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn an_import_whose_reader_leaves_stops_and_says_so() {
    let place = Place::new();
    std::fs::write(place.path("lines.tsv"), listing(20_000).join("\n")).expect("written");
    let lines = place.path("lines.tsv");
    let mut command =
        place.command(["import".as_ref(), "--ack".as_ref(), "--sync".as_ref(), lines.as_os_str()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    drop(child.stdout.take());
    let ran = child.wait_with_output().expect("ended");
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(2) && stderr.contains("stopped behind line"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let count: u64 = place.says(["count"]).trim().parse().expect("a number");
    assert!((1..20_000).contains(&count), "{count} lines were kept");
}
