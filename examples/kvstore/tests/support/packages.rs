//! A sample of the shape of a distribution's package index, as `scripts/packages-to-jsonl.sh` gives it: keys of some 30 bytes,
//! values of a few hundred bytes to tens of kilobytes.

use std::collections::BTreeMap;

use pagestone_testkit::Rng;
use serde_json::json;

/// Bytes of a value at these ten-thousandths of an index of 63 498 stanzas; between them lengths are spread evenly.
const LENGTHS: [(u64, u64); 12] = [
    (0, 443),
    (100, 526),
    (500, 567),
    (1000, 590),
    (2500, 639),
    (5000, 711),
    (7500, 825),
    (9000, 1009),
    (9500, 1189),
    (9900, 1974),
    (9990, 4890),
    (10_000, 76_338),
];

/// So many stanzas by key, "Package Version". The shortest and the longest of an index are among them.
pub(crate) fn packages(count: u64, seed: u64) -> BTreeMap<String, String> {
    let mut rng = Rng::new(seed);
    let mut packages = BTreeMap::new();
    while (packages.len() as u64) < count {
        let share = match packages.len() {
            0 => 0,
            1 => 10_000,
            _ => rng.below(10_000),
        };
        let package = format!("{}{}", words(&mut rng, 2, "-"), rng.below(100));
        let version = random_version(&mut rng);
        let stanza = stanza(&package, &version, length(share), &mut rng);
        packages.insert(format!("{package} {version}"), stanza);
    }
    packages
}

/// As JSON lines that put them, in the order of `keys`.
pub(crate) fn put_lines<'a>(
    packages: &BTreeMap<String, String>,
    keys: impl IntoIterator<Item = &'a String>,
) -> String {
    keys.into_iter().map(|key| format!("{}\n", json!({ "key": key, "value": packages[key] }))).collect()
}

/// As JSON lines that remove them.
pub(crate) fn del_lines<'a>(keys: impl IntoIterator<Item = &'a String>) -> String {
    keys.into_iter().map(|key| format!("{}\n", json!({ "op": "del", "key": key }))).collect()
}

fn length(share: u64) -> usize {
    let above = LENGTHS.iter().position(|(at, _)| *at > share).unwrap_or(LENGTHS.len() - 1);
    let ((low, short), (high, long)) = (LENGTHS[above - 1], LENGTHS[above]);
    (short + (long - short) * (share - low) / (high - low)) as usize
}

fn stanza(package: &str, version: &str, length: usize, rng: &mut Rng) -> String {
    let mut stanza = format!(
        "Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: J\u{f6}rg \"Jo\" <jo@example.org>\n\
         Filename: pool\\main\\{package}.deb\nSize: {}\nDescription: {}\nDepends:",
        rng.below(1 << 24),
        words(rng, 6, " "),
    );
    while stanza.len() < length {
        stanza.push_str(&format!(" lib{} (>= {}),", words(rng, 2, "-"), random_version(rng)));
    }
    // Everything behind the header is ASCII.
    stanza.truncate(length.max(stanza.rfind("Depends:").unwrap_or(0)));
    stanza
}

fn random_version(rng: &mut Rng) -> String {
    format!("{}.{}.{}-{}", rng.below(4), rng.below(30), rng.below(30), 1 + rng.below(9))
}

fn words(rng: &mut Rng, count: usize, between: &str) -> String {
    const WORDS: [&str; 16] = [
        "font", "python3", "data", "tool", "kernel", "common", "doc", "perl", "utils", "gnome", "server",
        "client", "dev", "ruby", "golang", "core",
    ];
    (0..count).map(|_| *rng.pick(&WORDS)).collect::<Vec<_>>().join(between)
}
