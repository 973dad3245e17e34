//! A store whose superblock lost one of its two copies must open all the same, say so once, and be mended by it (M4).

mod support;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use support::Place;

#[test]
fn one_broken_copy_is_warned_of_and_mended() {
    for copy in 0..2 {
        let place = Place::new();
        place.run_with_stdin(["import", "-"], b"a\t1\nb\t2\n").done();
        let mut data = File::options().write(true).open(place.store().join("data")).expect("the data file");
        data.seek(SeekFrom::Start(copy * 4096 + 100)).expect("sought");
        data.write_all(&[0xa5; 8]).expect("broken");
        drop(data);

        let ran = place.run(["scan"]);
        let warning = format!("kvstore: warning: copy {copy} of the superblock: ");
        assert!(ran.stderr.starts_with(&warning), "{}", ran.stderr);
        assert_eq!(ran.done(), "a\t1\nb\t2\n");
        let again = place.run(["scan"]);
        assert_eq!(again.stderr, "", "the opening mended it");
        assert_eq!(again.done(), "a\t1\nb\t2\n");
    }
}
