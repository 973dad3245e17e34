//! Whoever waits for a key to be durable must be told, even if no other line follows, and in the order of the lines.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Place, listing};

#[test]
fn a_line_is_acknowledged_before_the_next_is_sent() {
    for sync in [None, Some("--sync")] {
        let place = Place::new();
        let mut command = place.command(["import", "-", "--ack"].iter().chain(&sync));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut slowest = Duration::ZERO;
        for number in 0..50 {
            let sent = Instant::now();
            writeln!(stdin, "key\\t{number}\tvalue").expect("sent");
            let mut key = String::new();
            stdout.read_line(&mut key).expect("acknowledged");
            assert_eq!(key, format!("key\\t{number}\n"));
            if number > 0 {
                slowest = slowest.max(sent.elapsed()); // the first one waits for the store to be made
            }
        }
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        drop(stdin);
        assert!(child.wait().expect("ended").success());
        assert_eq!(place.says(["count"]), "50\n");
    }
}

#[test]
fn every_key_is_acknowledged_once_and_in_order() {
    let place = Place::new();
    let lines = listing(20_000);
    let ran = place.run_with_stdin(["import", "-", "--ack"], (lines.join("\n") + "\n").as_bytes());
    let keys = lines.iter().map(|line| line.split_once('\t').expect("a line of the listing").0);
    assert!(ran.done().lines().eq(keys), "the acknowledgements are not the keys in their order");

    let tsv = ["import", "-", "--ack", "--json", "--format", "tsv"];
    let json = place.run_with_stdin(tsv, b"a\\tb\t1\n\xff\t2\n");
    assert_eq!(json.done(), "{\"key\":\"a\\tb\"}\n{\"key_base64\":\"/w==\"}\n");
}
