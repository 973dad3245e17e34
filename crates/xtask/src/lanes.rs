//! `cargo xtask lanes`: the systems that this machine is not.
//!
//! Invariant: a lane runs, or says in capitals what was not proved and what is missing; it is never passed over in silence.
//!
//! ```text
//!   check TARGET   the whole workspace with all tests and examples, type-checked       needs the target's std
//!   wine           tests built for Windows, run under Wine                             needs mingw's linker and Wine besides
//! ```
//!
//! What passes under Wine shows that the calls are made as they are meant. It shows nothing about NTFS, about what a power cut
//! leaves, or about speed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{Failed, Step, Tally};
use crate::workspace::{Workspace, cargo};

const WINDOWS: &str = "x86_64-pc-windows-gnu";
const TARGETS: [&str; 3] = [WINDOWS, "aarch64-apple-darwin", "aarch64-unknown-linux-gnu"];

const LINKER: &str = "x86_64-w64-mingw32-gcc";
/// Where distributions put it: Debian off the path.
const WINES: [&str; 3] = ["wine64", "/usr/lib/wine/wine64", "wine"];

/// What is run under Wine: what touches files by itself, and the disk that it is compared with.
const UNDER_WINE: [&str; 2] = ["pagestone-direct-io", "pagestone-testkit"];

/// Rust's `std` takes random bytes from `bcryptprimitives.dll`, which Wine has since version 9 only. This stands in.
const RANDOM: &str = "#include <windows.h>\n\
    BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);\n\
    __declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE into, SIZE_T len) {\n\
        return SystemFunction036(into, (ULONG)len);\n\
    }\n";

/// What became of a lane that did not fail.
enum Outcome {
    Passed(String),
    /// What is missing, and how to get it.
    Skipped(String),
}

/// Runs every lane. A skipped one is no failure; a machine that must not skip looks for the word.
pub(crate) fn run(workspace: &Workspace) -> bool {
    let mut total = Tally::default();
    let mut skipped = 0;
    let mut count = |name: &str, outcome: Result<Outcome, Failed>| match outcome {
        Ok(Outcome::Passed(figures)) => {
            println!("{name:<34} ok       {figures}");
            total.passed += 1;
        }
        Ok(Outcome::Skipped(missing)) => {
            println!("{name:<34} SKIPPED, NOTHING WAS PROVED: {missing}");
            skipped += 1;
        }
        Err(Failed(said)) => {
            println!("{name:<34} FAILED\n\n{said}");
            total.failed += 1;
        }
    };
    for target in TARGETS {
        count(&format!("check {target}"), check(workspace, target));
    }
    count("wine", wine(workspace));
    println!("{} passed, {} failed, {skipped} skipped", total.passed, total.failed);
    total.failed == 0
}

/// Type-checks everything for a target. No linker is needed for that.
fn check(workspace: &Workspace, target: &str) -> Result<Outcome, Failed> {
    let mut step = Step::default();
    if let Some(missing) = no_std(&mut step, target)? {
        return Ok(Outcome::Skipped(missing));
    }
    let args = ["check", "--workspace", "--all-targets", "--keep-going", "--target", target];
    step.cargo(workspace, &args, &[])?;
    Ok(Outcome::Passed("every library, binary, test and example".into()))
}

/// What to say if the target's `std` is not installed.
fn no_std(step: &mut Step, target: &str) -> Result<Option<String>, Failed> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    let said = step.run(rustc)?;
    let there = Path::new(said.trim()).is_dir();
    Ok((!there).then(|| format!("no std for {target}: rustup target add {target}")))
}

/// Runs tests that were built for Windows.
fn wine(workspace: &Workspace) -> Result<Outcome, Failed> {
    let mut step = Step::default();
    if let Some(missing) = no_std(&mut step, WINDOWS)? {
        return Ok(Outcome::Skipped(missing));
    }
    if !answers(LINKER) {
        return Ok(Outcome::Skipped(format!("no {LINKER}: Debian's gcc-mingw-w64-x86-64-win32 has it")));
    }
    let Some(wine) = WINES.into_iter().find(|program| answers(program)) else {
        return Ok(Outcome::Skipped("no wine64: Debian's package wine64 has it".into()));
    };
    let beside = random_library(workspace, &mut step)?;
    let mut test = cargo();
    test.current_dir(&workspace.root)
        .args(["test", "--lib", "--tests", "--no-fail-fast", "--target", WINDOWS])
        .args(UNDER_WINE.iter().flat_map(|package| ["--package", package]))
        .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", wine)
        .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", LINKER)
        // Its own drive C, and no word about what it lacks.
        .env("WINEPREFIX", workspace.target.join("wine"))
        .env("WINEDEBUG", "-all")
        .env("WINEPATH", &beside);
    step.run(test)?;
    match step.tally.passed {
        0 => Err(Failed("no test ran\n".into())),
        passed => Ok(Outcome::Passed(format!("{passed} tests of {} packages", UNDER_WINE.len()))),
    }
}

/// Builds the stand-in. Gives the folder in which Wine finds it.
fn random_library(workspace: &Workspace, step: &mut Step) -> Result<PathBuf, Failed> {
    let folder = workspace.target.join("beside-wine");
    let source = folder.join("random.c");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&source, RANDOM))
        .map_err(|error| Failed(format!("{}: {error}\n", source.display())))?;
    let mut linker = Command::new(LINKER);
    linker.arg("-shared").arg("-o").arg(folder.join("bcryptprimitives.dll")).arg(&source).arg("-ladvapi32");
    step.run(linker)?;
    Ok(folder)
}

/// Whether a program is there.
fn answers(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
