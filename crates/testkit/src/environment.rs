//! Surroundings that only the privileged can make: file systems of a kind or size, and another user.
//!
//! Invariant: what was mounted is unmounted when its [`Mount`] is dropped, by a panic as well; and what cannot be made here is told
//! on the process's own stderr, past whatever a test runner keeps for itself, so that no test passes in silence.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Says what was not tested, and why.
pub fn skipped(what: &str, why: impl Display) {
    let said = format!("SKIPPED, NOT TESTED: {what}: {why}\n");
    // Nobody is left to tell if stderr is gone.
    let _ = std::io::stderr().write_all(said.as_bytes());
}

/// A directory that every user may enter, removed when it is dropped.
#[derive(Debug)]
pub struct OpenDir {
    path: PathBuf,
}

impl OpenDir {
    /// A new one in the system's directory for such. `name` is the caller's alone in this process.
    ///
    /// Panics if it cannot be made.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pagestone-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        // What is left behind in a directory for such things harms nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A file system that is mounted as long as this lives.
#[derive(Debug)]
pub struct Mount {
    dir: OpenDir,
}

impl Mount {
    /// Mounts an empty file system of this kind (`tmpfs`, `ramfs`) with these options of `mount`. Nothing, said aloud, where this
    /// process may not. `name` is the caller's alone in this process.
    pub fn new(name: &str, kind: &str, options: &str) -> Option<Self> {
        let dir = OpenDir::new(name);
        match run(Command::new("mount").args(["-t", kind, "-o", options, "pagestone"]).arg(dir.path())) {
            Ok(()) => Some(Self { dir }),
            Err(why) => {
                skipped(name, why);
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Changes its options, `ro` say.
    ///
    /// Panics if that is refused: who could mount can do that.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        run(Command::new("mount").arg("-o").arg(options).arg(self.path())).expect("a mounted file system");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let gone = run(Command::new("umount").arg(self.path()));
        // While a file in it is open it goes with that.
        if gone.is_err() && run(Command::new("umount").arg("--lazy").arg(self.path())).is_err() {
            skipped("unmounting", self.path().display());
        }
    }
}

/// Whether this process is the superuser's, for whom no permission counts.
pub fn is_superuser() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

/// Runs `program` as a user who owns nothing, in `dir`, which that user can enter; a copy of it there, as its own place may be closed
/// to others. Gives its output; nothing, said aloud, where this process may not.
pub fn as_another_user(program: &Path, arguments: &[&str], dir: &Path) -> Option<Output> {
    const NOBODY: &str = "65534";
    let copy = dir.join("program");
    fs::copy(program, &copy).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(&copy).args(arguments);
    let able =
        run(Command::new("setpriv").args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "true"]));
    if let Err(why) = able {
        skipped("as another user", why);
        return None;
    }
    Some(command.current_dir(dir).output().expect("setpriv was there a moment ago"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let what = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("{what}: {}", said.trim()))
}
