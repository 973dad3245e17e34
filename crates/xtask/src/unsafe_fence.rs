//! Unsafe code stays behind a fence: few files, few lines, all listed.
//!
//! Invariant: every crate forbids unsafe code, or denies it and opts out file by file; at most 10 files opt out, and at
//! most 200 lines in all stand inside an `unsafe` block, function, trait or implementation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::step::{Failed, Step};
use crate::workspace::Workspace;

const FILES_MAX: usize = 10;
const LINES_MAX: usize = 200;

/// Counts, and prints the list.
pub(crate) fn step(workspace: &Workspace, step: &mut Step) -> Result<(), Failed> {
    let mut failures = Vec::new();
    let mut sources = Vec::new();
    for package in &workspace.packages {
        for target in package.targets.iter().filter(|target| target.is("lib") || target.is("bin")) {
            let root = read(&target.source)?;
            if !["#![forbid(unsafe_code)]", "#![deny(unsafe_code)]"]
                .iter()
                .any(|attribute| root.contains(attribute))
            {
                failures.push(format!("{} neither forbids nor denies unsafe code", target.source.display()));
            }
        }
        rust_files(&package.dir, &mut sources)
            .map_err(|error| Failed(format!("{}: {error}\n", package.name)))?;
    }
    let (mut files, mut lines) = (Vec::new(), 0);
    for source in sources {
        let count = unsafe_lines(&read(&source)?);
        if count > 0 {
            let short = source.strip_prefix(&workspace.root).unwrap_or(&source).display().to_string();
            files.push(format!("{short} ({count})"));
            lines += count;
        }
    }
    if files.len() > FILES_MAX {
        failures.push(format!("{} files hold unsafe code, {FILES_MAX} may", files.len()));
    }
    if lines > LINES_MAX {
        failures.push(format!("{lines} lines are unsafe, {LINES_MAX} may be"));
    }
    let list = format!("{} files, {lines} lines: {}", files.len(), files.join(", "));
    if failures.is_empty() {
        step.notes.push(list);
        return Ok(());
    }
    Err(Failed(format!("{}\n{list}\n", failures.join("\n"))))
}

fn read(path: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(path).map_err(|error| Failed(format!("{}: {error}\n", path.display())))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// How many lines of a file stand inside a use of `unsafe`, from the word to the brace that closes it.
fn unsafe_lines(source: &str) -> usize {
    let code = blank_out_text(source);
    let mut lines = BTreeSet::new();
    for (at, _) in code.match_indices("unsafe") {
        let word = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
        if word(code[..at].chars().next_back()) || word(code[at + "unsafe".len()..].chars().next()) {
            continue;
        }
        let first = code[..at].matches('\n').count();
        lines.extend(first..=first + code[at..at + extent(&code[at..])].matches('\n').count());
    }
    lines.len()
}

/// Bytes from the start to the brace that closes the first one opened, or to a semicolon or bracket before any.
fn extent(code: &str) -> usize {
    let mut depth = 0;
    for (at, char) in code.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth <= 1 => return at,
            '}' => depth -= 1,
            ';' | ']' if depth == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

/// The source with comments, strings and characters replaced by blanks, its lines kept.
fn blank_out_text(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(char) = rest.chars().next() {
        let text = text_len(rest, code.chars().next_back());
        if text == 0 {
            code.push(char);
            rest = &rest[char.len_utf8()..];
        } else {
            code.extend(rest[..text].chars().map(|char| if char == '\n' { '\n' } else { ' ' }));
            rest = &rest[text..];
        }
    }
    code
}

/// How many bytes of comment, string or character `rest` begins with.
fn text_len(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return comment_len(rest);
    }
    if rest.starts_with('"') {
        return quoted_len(rest, '"');
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        // 'a is a lifetime, 'a' a character.
        let mut chars = inside.chars();
        let is_character = match chars.next() {
            Some('\\') => true,
            Some(_) => chars.next() == Some('\''),
            None => false,
        };
        return if is_character { quoted_len(rest, '\'') } else { 0 };
    }
    let in_word = before.is_some_and(|char| char.is_alphanumeric() || char == '_') && before != Some('b');
    if rest.starts_with('r') && !in_word {
        let hashes = rest[1..].chars().take_while(|char| *char == '#').count();
        if rest[1 + hashes..].starts_with('"') {
            let closing = format!("\"{}", "#".repeat(hashes));
            let start = 2 + hashes;
            return rest[start..].find(&closing).map_or(rest.len(), |at| start + at + closing.len());
        }
    }
    0
}

/// A block comment, which may hold others.
fn comment_len(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_inside_unsafe_are_counted_and_words_about_it_are_not() {
        for (source, lines) in [
            ("fn a() {}\n", 0),
            ("// unsafe { }\n/* unsafe /* { */ unsafe */ fn a() {}\n", 0),
            ("#![allow(unsafe_code)]\nlet a = \"unsafe { \\\" unsafe {\";\n", 0),
            ("let a = r#\"unsafe { \" \"#; let b = br\"unsafe {\"; let c = 'u'; let d: &'a str;\n", 0),
            ("let brace = '{';\nunsafe { call() }\n", 1),
            ("let quote = '\"'; unsafe { call() }\n", 1),
            ("let x = unsafe {\n    call('}', \"}\")\n};\n", 3),
            ("unsafe fn a() -> u8 {\n    if b { 1 } else { 2 }\n}\nfn c() {}\n", 3),
            ("unsafe impl Send for A {}\nunsafe impl Sync for A {}\n", 2),
            ("trait A {\n    unsafe fn b();\n    fn c() {\n    }\n}\n", 1),
            ("#[unsafe(no_mangle)]\nfn a() {\n}\n", 1),
            ("unsafe { a(unsafe { b() }) }", 1),
            ("let r = 1; let bar = \"unsafe {\";", 0),
        ] {
            assert_eq!(unsafe_lines(source), lines, "{source}");
        }
    }
}
