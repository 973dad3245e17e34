//! The command, as a shell runs it.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory for stores, and the command run on one of them.
pub(crate) struct Place {
    temporary: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { temporary: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The command on the store, with a small log so that a fresh store is made quickly.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        command(Path::new(env!("CARGO_BIN_EXE_kvstore")), &self.store(), arguments)
    }

    /// Runs it to its end, with nothing on stdin.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        let mut command = self.command(arguments);
        Ran::of(command.stdin(Stdio::null()).output().expect("the command starts"))
    }

    /// Runs it to its end with this on stdin.
    pub(crate) fn run_with_stdin<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        stdin: &[u8],
    ) -> Ran {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut pipe = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            // A command that ends early closes its stdin.
            scope.spawn(move || {
                let _ = pipe.write_all(stdin);
            });
            Ran::of(child.wait_with_output().expect("the command ends"))
        })
    }

    /// Runs it and takes its stdout; it must exit 0.
    pub(crate) fn says<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        self.run(arguments).done()
    }
}

/// The command `binary` on the store in `dir`.
pub(crate) fn command<A: AsRef<OsStr>>(
    binary: &Path,
    dir: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(dir).args(["--log", "4MiB"]).args(arguments);
    command
}

/// What a run of the command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It exited 0; gives its stdout.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        String::from_utf8(self.stdout).expect("UTF-8")
    }

    /// It exited 1 without a word.
    #[track_caller]
    pub(crate) fn missing(self) {
        assert_eq!((self.code, self.stdout.as_slice(), self.stderr.as_str()), (Some(1), &b""[..], ""));
    }

    /// It exited 2 with nothing on stdout; gives the reason.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!((self.code, self.stdout.as_slice()), (Some(2), &b""[..]), "{}", self.stderr);
        assert!(!self.stderr.is_empty() && !self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

/// Every file beneath `dir`, with its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(contents(&path));
            all.insert(path, None);
        } else {
            let bytes = fs::read(&path).expect("a file");
            all.insert(path, Some(bytes));
        }
    }
    all
}

/// Lines like those of a listing of files: long shared prefixes, unique keys, in no order.
pub(crate) fn listing(lines: usize) -> Vec<String> {
    const PARTS: [&str; 5] =
        ["usr/share/doc", "usr/lib/x86_64-linux-gnu", "usr/include/linux", "usr/bin", "usr/src/module"];
    let mut rng = pagestone_testkit::Rng::new(20_000);
    let mut all: Vec<String> = (0..lines)
        .map(|number| {
            let part = rng.pick(&PARTS);
            let (package, size) = (rng.below(300), rng.below(1 << 20));
            format!("/{part}/package-{package:03}/a-rather-long-directory-name/file-{number:05}.txt\t{size} 17{size}.25")
        })
        .collect();
    rng.shuffle(&mut all);
    all
}

/// The lines, in the order of their keys, as `scan` prints them.
pub(crate) fn sorted(lines: &[String]) -> String {
    let mut sorted: Vec<&str> = lines.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The figure of this name in what `stats` printed.
#[track_caller]
pub(crate) fn figure(stats: &str, name: &str) -> u64 {
    let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {stats}")).parse().expect("a number")
}
