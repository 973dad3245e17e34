//! Crash images, each opened and held against the contract words: durability (R1), prefix (R2), idempotence (R6), evidence (R7).
//!
//! ```text
//!   look       every image of a run's cuts                                      depth 1
//!    └ check    opened, compared, verified: R1, R2
//!       ├ again     its recovery is cut, everywhere, and recovered: R6          depth 2
//!       └ evidence  a flip in what its log proves to be durable: R7
//! ```

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use pagestone_direct_io::Disk;
use pagestone_page_format::crc32c;
use pagestone_store::{DurableBy, StoreError};
use pagestone_testkit::{CrashImage, CrashOptions, Keep, Rng, SimDisk};
use pagestone_wal::WalError;

use super::workload::{Run, open};
use super::{DIR, State, contents};

/// What all threads share: which images were looked at, and how many of each kind.
#[derive(Debug)]
pub struct Images {
    /// Of so many images the recovery of one is cut again, everywhere; and in the log of one a byte is flipped.
    every: u64,
    /// No image is looked at after it.
    until: Option<Instant>,
    seen: Mutex<HashSet<u64>>,
    /// Images of depth 1.
    pub images: AtomicU64,
    /// Images whose recovery was cut again.
    pub cut_again: AtomicU64,
    /// Images that cuts of recoveries left.
    pub depth_2: AtomicU64,
    /// Images in whose log a byte was flipped, and of these, those that were refused.
    pub flipped: AtomicU64,
    pub refused: AtomicU64,
}

impl Images {
    /// Cuts the recovery of one image in `every` again.
    pub fn new(every: u64, until: Option<Instant>) -> Self {
        let zero = || AtomicU64::new(0);
        let seen = Mutex::default();
        let (images, cut_again, depth_2, flipped, refused) = (zero(), zero(), zero(), zero(), zero());
        Self { every, until, seen, images, cut_again, depth_2, flipped, refused }
    }

    /// Depth 1 as the check has it: all subsets where there are at most 64, else a covering set.
    pub fn depth_1() -> CrashOptions {
        CrashOptions {
            exhaustive_max: 64,
            pairs_max: 16,
            splits_max: 8,
            random: 4,
            ..CrashOptions::default()
        }
    }

    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Whether an image was not looked at before.
    fn is_new(&self, mark: u64) -> bool {
        self.seen.lock().expect("no panic").insert(mark)
    }

    /// Looks at what a power cut can leave of this run, from this point of its journal on. Gives whether it came to the end.
    pub fn look(&self, run: &Run, from: usize, what: &dyn Fn() -> String) -> bool {
        assert_eq!(run.disk.audit(), [], "the disk saw a broken rule: {}", what());
        let options = CrashOptions { cuts: from..usize::MAX, ..Self::depth_1() };
        for image in run.disk.crash_states(&options) {
            if self.is_over() {
                return false;
            }
            let mark = image.fingerprint() ^ image.acknowledged().len() as u64;
            if self.is_new(mark) {
                self.images.fetch_add(1, Relaxed);
                self.check(&image, run, mark, what);
            }
        }
        true
    }

    fn check(&self, image: &CrashImage, run: &Run, mark: u64, what: &dyn Fn() -> String) {
        let context = || format!("{}, {}: {}", what(), run.durable_by, image.explain());
        let acknowledged = image.acknowledged().last().map_or(0, |last| *last as usize);
        let disk = image.disk();
        let found = recovered(&disk, run.durable_by, &context);
        // Steps are LSNs' order: what is there after the acknowledged ones, or after the one under way as well, is a prefix and R1.
        let legal = &run.states[acknowledged..run.states.len().min(acknowledged + 2)];
        if !legal.contains(&found) {
            let prefix = run.states.iter().position(|state| *state == found);
            let rule = if prefix.is_some() { "R1" } else { "R2" };
            panic!(
                "{rule}: after {acknowledged} acknowledged steps {} entries, {} expected, those of step {prefix:?}: {}",
                found.len(),
                legal[0].len(),
                context()
            );
        }
        if mark.is_multiple_of(self.every) {
            self.cut_again.fetch_add(1, Relaxed);
            self.again(&disk, run.durable_by, &found, &context);
        }
        if (mark / 2).is_multiple_of(self.every) {
            self.evidence(image, run.durable_by, legal, mark, &context);
        }
    }

    /// R6: the recovery that this disk saw, cut after every operation, and recovered once more.
    fn again(&self, disk: &SimDisk, durable_by: DurableBy, found: &State, context: &dyn Fn() -> String) {
        let few = CrashOptions {
            exhaustive_max: 8,
            pairs_max: 0,
            splits_max: 4,
            random: 1,
            ..CrashOptions::default()
        };
        // The same image after another recovery is another question if that one had found something else.
        let mut hasher = DefaultHasher::new();
        found.hash(&mut hasher);
        let expected = hasher.finish();
        for again in disk.crash_states(&few) {
            if self.is_over() {
                return;
            }
            if !self.is_new(again.fingerprint() ^ expected) {
                continue;
            }
            self.depth_2.fetch_add(1, Relaxed);
            let context = || format!("{} after {}", again.explain(), context());
            assert!(recovered(&again.disk(), durable_by, &context) == *found, "R6: {}", context());
        }
    }

    /// R7: a byte is flipped in what the log itself proves to be durable. Either the opening refuses it and every file is as it was, byte
    /// for byte, or nothing was lost by it.
    fn evidence(
        &self,
        image: &CrashImage,
        durable_by: DurableBy,
        legal: &[State],
        seed: u64,
        context: &dyn Fn() -> String,
    ) {
        let (disk, mut rng) = (image.disk(), Rng::new(seed));
        let Some((path, at)) = proved_block(&disk, &mut rng) else { return };
        let at = at + rng.below(4096);
        let old = disk.contents(&path).expect("a file")[at as usize];
        disk.overwrite(&path, at, &[old ^ (1 << rng.below(8))]).expect("flipped");
        self.flipped.fetch_add(1, Relaxed);
        let context = || format!("byte {at} of {} flipped in {}", path.display(), context());
        let before = files(&disk);
        match open(&disk, durable_by) {
            Ok(store) => {
                let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", context()));
                assert!(legal.contains(&found), "R7: durable bytes taken for a torn tail: {}", context());
            }
            Err(StoreError::Wal(WalError::WalCorrupt { .. })) => {
                self.refused.fetch_add(1, Relaxed);
                assert!(files(&disk) == before, "R7: what could not be explained was changed: {}", context());
                let again = disk.power_cut(Keep::Synced);
                let refused = open(&again, durable_by);
                assert!(refused.is_err() && files(&again) == before, "R7: refused once only: {}", context());
            }
            Err(error) => panic!("{error}: {}", context()),
        }
    }

    /// In one line.
    pub fn to_line(&self) -> String {
        let [images, cut_again, depth_2, flipped, refused] =
            [&self.images, &self.cut_again, &self.depth_2, &self.flipped, &self.refused]
                .map(|figure| figure.load(Relaxed));
        format!(
            "{images} distinct images, the recovery of {cut_again} cut again, which left {depth_2} more; {flipped} flips in durable log, \
             {refused} of them refused with every file as it was; violations of R1, R2, R6, R7: 0"
        )
    }
}

/// What is in the store after a crash, once it was verified.
fn recovered(disk: &SimDisk, durable_by: DurableBy, context: &dyn Fn() -> String) -> State {
    let store = open(disk, durable_by).unwrap_or_else(|error| panic!("{error}: {}", context()));
    let found = contents(&store).unwrap_or_else(|error| panic!("{error}: {}", context()));
    let report = store.verify().unwrap_or_else(|error| panic!("{error}: {}", context()));
    assert!(report.is_sound(), "{:?}: {}", report.findings, context());
    found
}

/// Every file of the store, byte for byte.
fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let list = |dir: &Path| {
        disk.list(dir).unwrap_or_default().into_iter().map(|name| dir.join(name)).collect::<Vec<_>>()
    };
    let all = list(Path::new(DIR)).into_iter().chain(list(&Path::new(DIR).join("log")));
    all.filter_map(|path| disk.contents(&path).ok().map(|bytes| (path, bytes))).collect()
}

/// A whole block of the log that ends at or below what some whole block claims to be durable: where it stands. Read with nothing but the
/// table of the format.
fn proved_block(disk: &SimDisk, rng: &mut Rng) -> Option<(PathBuf, u64)> {
    let (mut claim, mut blocks) = (0, Vec::new());
    for (path, bytes) in files(disk).into_iter().filter(|(path, _)| path.starts_with("/store/log")) {
        for (index, block) in bytes.chunks_exact(4096).enumerate() {
            let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
            let checksum = u32::from_le_bytes(block[..4].try_into().expect("four bytes"));
            if &block[4..6] == b"PL" && checksum == crc32c(&block[4..]) {
                let used = u64::from(u16::from_le_bytes([block[56], block[57]]));
                claim = claim.max(word(40)).max(if block[7] & 2 != 0 { word(32) } else { 0 });
                blocks.push((word(32) + 64 + used, path.clone(), index as u64 * 4096));
            }
        }
    }
    blocks.retain(|(end, ..)| *end <= claim);
    (!blocks.is_empty()).then(|| {
        let (_, path, at) = blocks.swap_remove(rng.below(blocks.len() as u64) as usize);
        (path, at)
    })
}
