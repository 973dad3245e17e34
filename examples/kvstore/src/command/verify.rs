//! `verify`: figures on stdout, and a line on stderr for each thing that is wrong.

use std::io::{self, Write};

use kvstore::KvStore;

use super::failure::{Failure, Outcome};
use super::format::Format;
use super::run::print;

/// Looks at every page of the store.
pub(super) fn verify(store: &KvStore, format: Format) -> Result<Outcome, Failure> {
    let report = store.verify()?;
    let mut stderr = io::stderr().lock();
    // A closed stderr changes no exit status.
    for finding in &report.findings {
        let _ = writeln!(stderr, "kvstore: {finding}");
    }
    if report.more_findings > 0 {
        let _ = writeln!(stderr, "kvstore: and {} more", report.more_findings);
    }
    let mut out = Vec::new();
    let figures = report.figures();
    format.figures(figures.iter().map(|(name, _, value)| (*name, *value)), &mut out);
    match print(&out) {
        // Whoever closed stdout is told by the status all the same.
        Err(failure) if !failure.is_closed_pipe() || report.is_sound() => Err(failure),
        _ if report.is_sound() => Ok(Outcome::Done),
        _ => Ok(Outcome::Unsound),
    }
}
