//! A listing that is imported must come out of a scan line by line, whether the pool holds all of it or a fraction, and an
//! import must not take more memory than its pool and a little.

mod support;

use std::fs;

use support::{Place, figure, listing, sorted};

const LINES: usize = 20_000;

#[test]
fn a_listing_comes_out_sorted() {
    let place = Place::new();
    let lines = listing(LINES);
    // Without a line end behind the last line.
    fs::write(place.path("lines.tsv"), lines.join("\n")).expect("written");
    let ran = place.run(["import".as_ref(), place.path("lines.tsv").as_os_str()]);
    assert!(ran.stderr.contains("imported 20000 lines"), "{}", ran.stderr);
    assert_eq!(ran.done(), "");
    assert_eq!(place.says(["count"]), "20000\n");
    assert!(place.says(["scan"]) == sorted(&lines), "the scan differs from the sorted source");

    let mut reversed: Vec<&str> = lines.iter().map(String::as_str).collect();
    reversed.sort_unstable_by(|a, b| b.cmp(a));
    assert!(place.says(["scan", "--reverse"]).lines().eq(reversed.iter().copied()));
    for line in lines.iter().step_by(997) {
        let (key, value) = line.split_once('\t').expect("a line of the listing");
        assert_eq!(place.says(["get", key]), format!("{value}\n"));
    }
}

#[test]
fn a_pool_smaller_than_the_listing_gives_the_same() {
    let place = Place::new();
    let lines = listing(LINES);
    fs::write(place.path("lines.tsv"), lines.join("\n") + "\n").expect("written");
    place
        .run(["--pool".as_ref(), "1MiB".as_ref(), "import".as_ref(), place.path("lines.tsv").as_os_str()])
        .done();
    let stats = place.says(["stats", "--pool", "1MiB"]);
    assert!(figure(&stats, "evictions") > 0, "{stats}");
    assert!(figure(&stats, "splits") > 0, "{stats}");
    assert!(
        place.says(["scan", "--pool", "1MiB"]) == sorted(&lines),
        "the scan differs from the sorted source"
    );
    // All of it again, replaced by itself.
    place
        .run(["--pool".as_ref(), "256KiB".as_ref(), "import".as_ref(), place.path("lines.tsv").as_os_str()])
        .done();
    assert!(
        place.says(["scan", "--pool", "256KiB"]) == sorted(&lines),
        "the scan differs from the sorted source"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_import_stays_within_its_pool_and_32_mib() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;

    let (place, lines) = (Place::new(), listing(LINES));
    for (pool, pool_mib) in [("1MiB", 1), ("8MiB", 8)] {
        let mut command = place.command(["import", "-", "--ack", "--pool", pool]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::scope(|scope| {
            let stdin = &mut stdin;
            let text = lines.join("\n") + "\n";
            scope.spawn(move || stdin.write_all(text.as_bytes()).expect("read"));
            // The child waits for more once every line is acknowledged.
            assert_eq!(stdout.lines().take(LINES).count(), LINES);
        });
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("running");
        drop(stdin);
        // Its stdout is closed: it has nothing more to say, and ends well.
        assert!(child.wait().expect("ended").success());
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak").trim();
        let kib: u64 = peak.trim_end_matches("kB").trim().parse().expect("a number");
        assert!(kib <= (pool_mib + 32) * 1024, "pool {pool}: {peak} resident at the peak");
    }
}
