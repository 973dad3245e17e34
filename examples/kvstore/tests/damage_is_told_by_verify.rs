//! Prevents: a damaged store that `verify` calls sound, a damage that it does not name, a sound store that it calls damaged.

mod support;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use support::Place;

#[test]
fn verify_prints_figures_and_tells_a_broken_page() {
    let place = Place::new();
    assert_eq!(place.run(["verify"]).code, Some(2), "there is no store");
    let lines: String = (0..500).map(|number| format!("key-{number:05}\tvalue-{number}\n")).collect();
    place.run_with_stdin(["import", "-"], lines.as_bytes()).done();
    let figures = place.run(["verify"]);
    assert_eq!(figures.stderr, "");
    let figures = figures.done();
    assert!(figures.contains("entries 500\n") && figures.contains("findings 0\n"), "{figures}");

    // The root of the tree, page 1.
    let mut data = File::options().write(true).open(place.store().join("data")).expect("the data file");
    data.seek(SeekFrom::Start(8192 + 4096 + 1000)).expect("sought");
    data.write_all(&[0xa5; 8]).expect("broken");
    drop(data);
    let told = place.run(["verify"]);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    assert!(
        told.stderr.lines().all(|line| line.starts_with("kvstore: page 1: unreadable: ")),
        "{}",
        told.stderr
    );
    assert!(String::from_utf8_lossy(&told.stdout).contains("findings 2\n"), "{told:?}");
}
