//! Crates outside the workspace, each of which uses one layer as a stranger would: by its path, alone, through its face.
//!
//! Each is a folder of `tests/downstream` with an empty `[workspace]` table. Its `main` uses the layer and panics if that
//! does not do what it should. All are built into one target directory, with the versions of the workspace's own
//! `Cargo.lock`, so that nothing new is downloaded.

use std::path::PathBuf;

use crate::step::{Failed, Step};
use crate::workspace::{Workspace, cargo};

/// They have no profiles of their own; without these each build takes several times the room on the disk.
const SMALL: [(&str, &str); 2] =
    [("CARGO_PROFILE_DEV_DEBUG", "line-tables-only"), ("CARGO_INCREMENTAL", "0")];

/// Looks at the format of each of them, builds it and runs it.
pub(crate) fn step(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    let dir = workspace.root.join("tests/downstream");
    let crates = crates(&dir).map_err(|error| Failed(format!("{}: {error}\n", dir.display())))?;
    for package in &crates {
        std::fs::copy(workspace.root.join("Cargo.lock"), package.join("Cargo.lock"))
            .map_err(|error| Failed(format!("Cargo.lock of {}: {error}\n", package.display())))?;
        let mut format = cargo();
        format.current_dir(package).args(["fmt", "--check"]);
        step.run(format)?;
        let mut command = cargo();
        command
            .current_dir(package)
            .envs(SMALL)
            .args(["run", "--quiet", "--target-dir"])
            .arg(workspace.target.join("downstream"));
        step.run(command)?;
    }
    step.notes.push(format!("{} crates", crates.len()));
    if crates.is_empty() { Err(Failed("no crate in tests/downstream\n".into())) } else { Ok(()) }
}

fn crates(dir: &PathBuf) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
