//! A value longer than a page must come back as it went in, from a file, from a pipe, in a line or through the library, and must
//! not take the memory that it has bytes.

mod support;

use std::fs;
use std::io::Read;

use kvstore::KvStore;
use pagestone_testkit::Rng;

use support::{Place, figure};

fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(len as u64).fill(&mut bytes);
    bytes
}

#[test]
fn a_file_goes_in_and_comes_out() {
    let place = Place::new();
    let (source, copy) = (place.path("source"), place.path("copy"));
    for len in [0, 1, 959, 960, 4096, 100_000, 5_000_003] {
        fs::write(&source, bytes(len)).expect("written");
        place.run(["put".as_ref(), "k".as_ref(), "--value-file".as_ref(), source.as_os_str()]).done();
        place.run(["get".as_ref(), "k".as_ref(), "--output".as_ref(), copy.as_os_str()]).done();
        assert!(fs::read(&copy).expect("the copy") == bytes(len), "{len} bytes from a file");

        place.run_with_stdin(["put", "--value-file", "-", "piped"], &bytes(len)).done();
        let got = place.run(["get", "piped"]);
        assert_eq!((got.code, got.stdout.len()), (Some(0), len + 1), "{}", got.stderr);
        assert!(got.stdout[..len] == bytes(len), "{len} bytes through a pipe");
    }
    place.run(["get".as_ref(), "no".as_ref(), "--output".as_ref(), place.path("none").as_os_str()]).missing();
    assert!(!place.path("none").exists(), "a missing key makes no file");
    assert_eq!(place.says(["count"]), "2\n");
    assert_eq!(figure(&place.says(["verify"]), "findings"), 0);
}

#[test]
fn long_values_stand_in_lines_too() {
    let place = Place::new();
    let store = KvStore::open(place.store()).expect("a store");
    store.put("binary", bytes(300_000)).expect("put");
    store.put("short", "value").expect("put");
    store.put("text", "\u{e9}\"\n".repeat(100_000)).expect("put");
    drop(store);
    for form in ["jsonl", "tsv"] {
        let lines = place.run(["export", "--format", form]).stdout;
        let copy = Place::new();
        copy.run_with_stdin(["import", "--format", form], &lines).done();
        assert!(copy.run(["export", "--format", form]).stdout == lines, "{form}: the copy differs");
        let store = KvStore::open(copy.store()).expect("the copy");
        assert!(store.get("binary").expect("read").is_some_and(|value| value == bytes(300_000)));
        let mut text = String::new();
        store.get_reader("text").expect("read").expect("there").read_to_string(&mut text).expect("text");
        assert!(text == "\u{e9}\"\n".repeat(100_000));
    }
}

#[test]
fn a_value_longer_than_a_line_is_told_of() {
    let place = Place::new();
    let source = place.path("source");
    fs::File::create(&source).and_then(|file| file.set_len((64 << 20) + 1)).expect("a file with a hole");
    place.run(["put", "a", "1"]).done();
    place.run(["put".as_ref(), "long".as_ref(), "--value-file".as_ref(), source.as_os_str()]).done();
    let exported = place.run(["export"]);
    assert_eq!(
        (exported.code, exported.stdout.as_slice()),
        (Some(2), &b"{\"key\":\"a\",\"value\":\"1\"}\n"[..])
    );
    assert!(exported.stderr.contains("entry 2: a value of 67108865 bytes"), "{}", exported.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_long_value_takes_the_pool_and_32_mib_at_most() {
    use std::io::Write;
    use std::process::Stdio;

    const MIB: usize = 96;
    let place = Place::new();
    let piece = bytes(1 << 20);
    let within = |id: u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("running");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak").trim();
        let kib: u64 = peak.trim_end_matches("kB").trim().parse().expect("a number");
        assert!(kib <= (2 + 32) << 10, "{peak} resident at the peak, with a pool of 2 MiB");
    };

    let mut put = place.command(["put", "k", "--value-file", "-", "--pool", "2MiB"]);
    let mut child = put.stdin(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    for _ in 0..MIB {
        stdin.write_all(&piece).expect("read");
    }
    within(child.id());
    drop(stdin);
    assert!(child.wait().expect("ended").success());

    let mut get = place.command(["get", "k", "--pool", "2MiB"]);
    let mut child = get.stdout(Stdio::piped()).spawn().expect("started");
    let mut stdout = child.stdout.take().expect("piped");
    let mut found = vec![0; 1 << 20];
    for number in 0..MIB {
        stdout.read_exact(&mut found).expect("written");
        assert!(found == piece, "MiB {number} differs");
        if number == MIB - 2 {
            within(child.id()); // the rest does not fit the pipe
        }
    }
    found.clear();
    stdout.read_to_end(&mut found).expect("written");
    assert_eq!((found.as_slice(), child.wait().expect("ended").success()), (&b"\n"[..], true));
}
