//! A path that holds something else, or a store that was cut short, is refused with its reason, and not one byte of it is
//! changed (E3, M9, R7).

mod support;

use std::fs;

use support::{Place, contents};

/// Every command is refused, and leaves everything as it was.
#[track_caller]
fn refused(place: &Place) {
    let before = contents(&place.path(""));
    for arguments in [&["get", "k"][..], &["put", "k", "v"], &["scan"], &["stats"], &["checkpoint"]] {
        place.run(arguments).failed();
        assert!(contents(&place.path("")) == before, "{arguments:?} changed something");
    }
    place.run_with_stdin(["import", "-"], b"k\tv\n").failed();
    assert!(contents(&place.path("")) == before, "import changed something");
}

fn with_data_file(bytes: &[u8]) -> Place {
    let place = Place::new();
    fs::create_dir(place.store()).expect("made");
    fs::write(place.store().join("data"), bytes).expect("written");
    place
}

#[test]
fn a_data_file_that_is_none_of_ours() {
    refused(&with_data_file(b"a text that somebody needs\n"));
    refused(&with_data_file(&[0x5a; 100_000]));
    refused(&with_data_file(&[0; 100_000]));
}

#[test]
fn an_empty_data_file() {
    refused(&with_data_file(b""));
}

#[test]
fn a_directory_in_the_place_of_the_data_file() {
    let place = Place::new();
    fs::create_dir_all(place.store().join("data")).expect("made");
    refused(&place);
}

#[test]
fn a_file_in_the_place_of_the_directory() {
    let place = Place::new();
    fs::write(place.store(), "a file").expect("written");
    refused(&place);
}

#[test]
fn a_directory_of_something_else() {
    let place = Place::new();
    fs::create_dir(place.store()).expect("made");
    fs::write(place.store().join("letter.txt"), "dear").expect("written");
    refused(&place);
}

#[test]
fn a_data_file_cut_short() {
    for keep in [1, 4095, 4096, 8192, 8192 + 4096, 8192 + 4096 + 100] {
        let place = Place::new();
        place.run_with_stdin(["import", "-"], b"a\t1\nb\t2\n").done();
        let data = fs::File::options().write(true).open(place.store().join("data")).expect("the data file");
        assert!(data.metadata().expect("its length").len() > keep);
        data.set_len(keep).expect("cut");
        refused(&place);
    }
}
