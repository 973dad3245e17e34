//! Prevents: a list of faults whose tests have been renamed, moved or taken out, so that it claims what nothing proves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names in code style with an underscore, in rows of tables: all of them are tests, or files of tests.
fn named(list: &str) -> BTreeSet<&str> {
    let rows = list.lines().filter(|line| line.starts_with('|'));
    let in_code = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    in_code.filter(|name| name.contains('_')).collect()
}

/// The functions and files of tests below a directory.
fn collect(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory of the workspace") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("source");
            let functions = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
            found.extend(functions.filter_map(|line| Some(line.split_once('(')?.0.to_owned())));
            found.insert(name);
        }
    }
}

#[test]
fn every_test_that_the_list_names_is_there() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = fs::read_to_string(workspace.join("docs/faults.md")).expect("docs/faults.md");
    let mut found = BTreeSet::new();
    for part in ["crates", "examples"] {
        collect(&workspace.join(part), &mut found);
    }
    let named = named(&list);
    assert!(named.len() > 60, "only {} names: the list is read wrongly", named.len());
    let missing: Vec<_> = named.into_iter().filter(|name| !found.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/faults.md names tests that are not there: {missing:?}");
}

#[test]
fn a_name_that_is_nowhere_is_noticed() {
    let list = "Not a row: `not_looked_at`\n| M1 | `a_test` and `b_test` | `word` |\n";
    assert_eq!(named(list), BTreeSet::from(["a_test", "b_test"]));
}
