//! Prevents: an arrow that runs upward. Every dependency inside the workspace goes to a strictly lower floor, and every
//! crate from outside is argued for in `docs/decisions`.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

/// The floors of `docs/architecture.md`. A crate that is not built yet may stand here; one that is built must.
const FLOORS: [(u8, &[&str]); 9] = [
    (8, &["kvstore", "pagestone-layers-examples", "kvbench", "pagestone-micro-benches", "pagestone-testkit"]),
    (7, &["pagestone"]),
    (6, &["pagestone-store"]),
    (5, &["pagestone-btree"]),
    (4, &["pagestone-mini-txn"]),
    (3, &["pagestone-buffer-pool", "pagestone-wal", "pagestone-allocator", "pagestone-mapped-pages"]),
    (2, &["pagestone-direct-io", "pagestone-hybrid-latch", "pagestone-swip", "pagestone-threading"]),
    (1, &["pagestone-page-format"]),
    (0, &["pagestone-sync", "pagestone-telemetry"]),
];

/// The project's commands stand beside the building and lean on no floor of it.
const OUTSIDE_THE_BUILDING: &str = "pagestone-xtask";
/// Any crate's tests may use it.
const TESTKIT: &str = "pagestone-testkit";

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, names)| names.contains(&name)).map(|(floor, _)| *floor)
}

/// What is wrong with the arrows between these packages.
fn violations(packages: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let floors: BTreeMap<&str, Option<u8>> =
        packages.iter().map(name).map(|name| (name, floor(name))).collect();
    for package in packages {
        let from = name(package);
        if floors[from].is_none() && from != OUTSIDE_THE_BUILDING {
            found.push(format!("{from} has no floor"));
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = name(dependency);
            let Some(&down) = floors.get(to) else { continue };
            let is_dev = dependency["kind"] == "dev";
            if is_dev && to == TESTKIT {
                continue;
            }
            match (floors[from], down) {
                (Some(up), Some(down)) if down < up => {}
                (up, down) => found.push(format!("{from} (floor {up:?}) depends on {to} (floor {down:?})")),
            }
        }
    }
    found
}

fn name(json: &Value) -> &str {
    json["name"].as_str().expect("a name")
}

fn metadata() -> Value {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test, so it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn packages() -> Vec<Value> {
    metadata()["packages"].as_array().expect("packages").clone()
}

#[test]
fn every_arrow_goes_down() {
    let packages = packages();
    assert!(packages.len() >= 16, "{} packages are no workspace of ours", packages.len());
    assert_eq!(violations(&packages), Vec::<String>::new());
}

#[test]
fn an_arrow_that_goes_up_is_found() {
    let package = |name: &str, dependencies: &[(&str, Value)]| {
        let dependencies =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect::<Vec<_>>();
        json!({"name": name, "dependencies": dependencies})
    };
    let (normal, dev, build) = (Value::Null, json!("dev"), json!("build"));
    let building = |wal: &[(&str, Value)]| {
        vec![
            package("pagestone-wal", wal),
            package("pagestone-sync", &[]),
            package("pagestone-allocator", &[]),
            package("pagestone-btree", &[]),
            package("pagestone-testkit", &[("pagestone-sync", Value::Null)]),
            package("pagestone-xtask", &[]),
        ]
    };
    for allowed in [
        ("pagestone-sync", normal.clone()),
        ("pagestone-sync", dev.clone()),
        ("pagestone-testkit", dev.clone()),
        ("libc", normal.clone()),
    ] {
        assert_eq!(violations(&building(&[allowed])), Vec::<String>::new());
    }
    for forbidden in [
        ("pagestone-btree", normal.clone()),
        ("pagestone-btree", dev.clone()),
        ("pagestone-allocator", normal.clone()),
        ("pagestone-allocator", dev),
        ("pagestone-testkit", normal.clone()),
        ("pagestone-testkit", build),
        ("pagestone-xtask", normal),
    ] {
        assert_eq!(violations(&building(&[forbidden])).len(), 1);
    }
    assert_eq!(violations(&[package("pagestone-attic", &[])]).len(), 1);
}

#[test]
fn every_crate_from_outside_is_argued_for() {
    let decision = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/decisions/001-crates-from-outside.md");
    let decision = std::fs::read_to_string(decision).expect("the decision is written down");
    let packages = packages();
    let ours: Vec<&str> = packages.iter().map(name).collect();
    for package in &packages {
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let (from, to) = (name(package), name(dependency));
            assert!(
                ours.contains(&to) || decision.contains(&format!("`{to}`")),
                "{from} depends on {to}, which docs/decisions/001-crates-from-outside.md does not name"
            );
        }
    }
}

#[test]
fn nothing_runs_at_build_time_and_nothing_comes_from_git() {
    for package in packages() {
        for target in package["targets"].as_array().expect("targets") {
            assert!(target["kind"] != json!(["custom-build"]), "{} has a build script", name(&package));
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let source = dependency["source"].as_str().unwrap_or("path");
            assert!(!source.starts_with("git+"), "{} takes {} from git", name(&package), name(dependency));
        }
    }
}
