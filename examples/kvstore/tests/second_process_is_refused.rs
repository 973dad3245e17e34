//! Two processes in one store would ruin it: the second one is told within 300 ms, and changes nothing (E1).

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::Place;

#[test]
fn a_second_process_is_refused_within_300_ms() {
    let place = Place::new();
    let mut command = place.command(["import", "-", "--ack"]);
    let mut first =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let mut stdin = first.stdin.take().expect("piped");
    let mut stdout = BufReader::new(first.stdout.take().expect("piped"));
    stdin.write_all(b"a\t1\n").expect("sent");
    stdout.read_line(&mut String::new()).expect("acknowledged");

    for arguments in [&["get", "a"][..], &["put", "b", "2"], &["scan"], &["checkpoint"]] {
        // The machine may be busy with something else once.
        let fastest = (0..5)
            .map(|_| {
                let began = Instant::now();
                let reason = place.run(arguments).failed();
                assert!(reason.contains("locked"), "{reason}");
                began.elapsed()
            })
            .min();
        assert!(fastest.is_some_and(|took| took < Duration::from_millis(300)), "{arguments:?}: {fastest:?}");
    }

    stdin.write_all(b"c\t3\n").expect("sent");
    drop(stdin);
    assert!(first.wait().expect("ended").success());
    assert_eq!(place.says(["scan"]), "a\t1\nc\t3\n");
}
