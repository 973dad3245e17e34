//! Sets of keys: random ones of 16 bytes, and strings that share long prefixes, made by a fixed seed.
//!
//! Invariant: a set is sorted, has each key once, and is the same in every run; a key's number is its place in it.
//!
//! File listings are those of trees of directories: most directories have few files, some have hundreds; names are words, versions and
//! endings. URLs are those of shops, papers and archives: few hosts have most of the pages, and what a site's pages have in common is long.

use std::collections::HashSet;

use crate::writers::{key, mix};

/// What kind of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// 16 random bytes.
    Random,
    /// File listings.
    Paths,
    /// Addresses of web pages.
    Urls,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Random, Kind::Paths, Kind::Urls];
}

/// Keys, sorted.
pub(crate) struct KeySet {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeySet {
    pub(crate) fn new(kind: Kind, rows: u64) -> Self {
        let mut keys: Vec<Box<[u8]>> = match kind {
            Kind::Random => (0..rows).map(|number| Box::from(key(number))).collect(),
            Kind::Paths => distinct(rows, Paths::new()),
            Kind::Urls => distinct(rows, Urls(Random(SEED))),
        };
        keys.sort_unstable();
        let mut set = Self { bytes: Vec::new(), ends: Vec::with_capacity(keys.len()) };
        for key in keys {
            set.bytes.extend_from_slice(&key);
            set.ends.push(set.bytes.len());
        }
        set
    }

    pub(crate) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Bytes of all keys.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// One of them; the number is below the length.
    pub(crate) fn get(&self, number: u64) -> &[u8] {
        let number = number as usize;
        let from = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[from..self.ends[number]]
    }

    /// Bytes that a key shares with the one before it, on average.
    pub(crate) fn shared(&self) -> f64 {
        let common = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let sum: usize = (1..self.len()).map(|number| common(self.get(number - 1), self.get(number))).sum();
        sum as f64 / self.len() as f64
    }
}

const SEED: u64 = 0x7061_6765;

fn distinct(rows: u64, keys: impl Iterator<Item = String>) -> Vec<Box<[u8]>> {
    let mut seen = HashSet::with_capacity(rows as usize);
    for key in keys {
        if seen.len() as u64 == rows {
            break;
        }
        seen.insert(key.into_bytes().into_boxed_slice());
    }
    seen.into_iter().collect()
}

/// Numbers without pattern, one after the other.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % end
    }

    /// Below `end`, the small ones far more often: evenly over the orders of magnitude.
    fn small(&mut self, end: u64) -> u64 {
        let bits = u64::from(64 - end.leading_zeros());
        let shift = self.below(bits);
        self.below((end >> shift).max(1))
    }

    fn of<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words[self.below(words.len() as u64) as usize]
    }

    /// Two to four syllables.
    fn word(&mut self) -> String {
        let syllables = 2 + self.below(3);
        (0..syllables).map(|_| self.of(SYLLABLES)).collect()
    }
}

const SYLLABLES: &[&str] = &[
    "al", "an", "ar", "ba", "be", "ca", "co", "da", "de", "di", "el", "en", "er", "fi", "ga", "gra", "ha",
    "in", "is", "ka", "la", "li", "lo", "ma", "me", "mi", "na", "ne", "no", "on", "or", "pa", "pe", "po",
    "ra", "re", "ri", "ro", "sa", "se", "si", "so", "sta", "ta", "te", "ti", "to", "tra", "un", "va", "ve",
    "vi", "xe", "zo",
];

/// Files of a machine, directory by directory.
struct Paths {
    random: Random,
    /// Those that are not yet listed.
    directories: Vec<String>,
    directory: String,
    files_left: u64,
}

const ROOTS: &[&str] = &[
    "/usr/share/doc",
    "/usr/share/icons/hicolor/48x48",
    "/usr/share/locale",
    "/usr/share/texlive/texmf-dist/tex/latex",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/python3/dist-packages",
    "/usr/include/boost",
    "/usr/src/linux-headers-6.1.0-18-common/include",
    "/var/lib/containers/storage/overlay",
    "/home/user/projects/frontend/node_modules",
];
const INNER: &[&str] = &[
    "src",
    "include",
    "lib",
    "tests",
    "docs",
    "examples",
    "LC_MESSAGES",
    "apps",
    "dist",
    "__pycache__",
    "modules",
];
const ENDINGS: &[&str] = &[
    ".h", ".hpp", ".py", ".pyc", ".so.1", ".js", ".d.ts", ".json", ".md", ".png", ".svg", ".mo", ".gz",
    ".txt", ".sty", ".c", "",
];

impl Paths {
    fn new() -> Self {
        Self { random: Random(SEED), directories: Vec::new(), directory: String::new(), files_left: 0 }
    }

    fn enter_directory(&mut self) {
        let random = &mut self.random;
        let parent = match self.directories.pop() {
            Some(parent) => parent,
            None => {
                format!("{}/{}-{}.{}", random.of(ROOTS), random.word(), random.below(9), random.below(20))
            }
        };
        // A listing goes down until the way is long.
        if parent.len() < 70 {
            for _ in 0..random.small(8) {
                let name = if random.below(3) == 0 { random.of(INNER).into() } else { random.word() };
                self.directories.push(format!("{parent}/{name}"));
            }
        }
        self.files_left = random.small(300);
        self.directory = parent;
    }
}

impl Iterator for Paths {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while self.files_left == 0 {
            self.enter_directory();
        }
        self.files_left -= 1;
        let random = &mut self.random;
        let mut name = random.word();
        for _ in 0..random.below(3) {
            name = format!("{name}{}{}", random.of(&["-", "_", ""]), random.word());
        }
        Some(format!("{}/{name}{}", self.directory, random.of(ENDINGS)))
    }
}

/// Pages of sites.
struct Urls(Random);

const SECTIONS: &[&str] = &[
    "news/politics",
    "news/economy",
    "sport/football",
    "culture/books",
    "science",
    "travel/reports",
    "opinion",
];

impl Iterator for Urls {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let random = &mut self.0;
        let site = random.small(4096);
        // What a site is called, and what it is, comes of its number.
        let mut of_site = Random(mix(site));
        let host = format!(
            "https://www.{}-{}.{}",
            of_site.word(),
            of_site.word(),
            of_site.of(&["com", "org", "net", "co.uk", "de"])
        );
        Some(match of_site.below(3) {
            0 => {
                let (category, product) = (random.small(40), random.small(1_000_000));
                let page =
                    random.of(&["", "/reviews", "/reviews?page=2", "?ref=related", "?ref=search&sort=price"]);
                let words = Random(mix(category)).word();
                format!(
                    "{host}/shop/catalog/{words}/product/{:08}-{}{page}",
                    product,
                    Random(mix(product)).word()
                )
            }
            1 => {
                let (year, month, day) =
                    (2000 + random.below(26), 1 + random.below(12), 1 + random.below(28));
                let section = random.of(SECTIONS);
                let title = [random.word(), random.word(), random.word(), random.word()].join("-");
                format!("{host}/{section}/{year}/{month:02}/{day:02}/{title}.html")
            }
            _ => {
                let (topic, page) = (random.small(200_000), 1 + random.small(50));
                format!("{host}/forum/viewtopic.php?f={}&t={topic:07}&start={}", topic % 40, page * 20)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_sorted_has_each_key_once_and_is_the_same_every_time() {
        for kind in Kind::ALL {
            let set = KeySet::new(kind, 20_000);
            assert_eq!(set.len(), 20_000, "{kind:?}");
            assert!((1..set.len()).all(|number| set.get(number - 1) < set.get(number)), "{kind:?}");
            assert!(KeySet::new(kind, 20_000).bytes == set.bytes, "{kind:?}");
        }
    }

    #[test]
    fn strings_share_much_and_fit_a_page_of_4_kib() {
        for kind in [Kind::Paths, Kind::Urls] {
            let set = KeySet::new(kind, 20_000);
            let length = set.bytes() as f64 / set.len() as f64;
            assert!((40.0..160.0).contains(&length), "{kind:?}: {length} bytes");
            assert!(set.shared() > 0.4 * length, "{kind:?}: {} of {length} bytes", set.shared());
            assert!((0..set.len()).all(|number| set.get(number).len() <= 400), "{kind:?}");
        }
    }
}
