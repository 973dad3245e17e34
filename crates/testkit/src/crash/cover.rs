//! Which subsets of the pending atoms are looked at.
//!
//! Invariant: few atoms, all subsets. Many atoms, a covering set: every single loss, every single survival, every order
//! of two, every tear is in it, and a sample of everything else.

use super::cut::{Atoms, Cut, Part, Tweak};
use super::image::ImageKind;
use super::states::CrashOptions;
use crate::Rng;
use crate::rng::mix;
use crate::sim::{Medium, Model, SECTOR};

/// One state of a cut, before it is built.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) kind: ImageKind,
    pub(super) atoms: Atoms,
    pub(super) tweak: Option<Tweak>,
}

/// Collects the states of one cut.
struct Cover<'a> {
    cut: &'a Cut,
    options: &'a CrashOptions,
    /// The one change that the cut before did not have; what does not contain it was looked at there.
    newest: Option<usize>,
    meta: Atoms,
    rng: Rng,
    choices: Vec<Choice>,
}

/// The states to look at. With `newest`, those that the cut before that change did not have.
pub(super) fn choices(cut: &Cut, options: &CrashOptions, newest: Option<usize>) -> (Vec<Choice>, bool) {
    let meta = cut.meta();
    let rng = Rng::new(mix(options.seed ^ mix(cut.index as u64)));
    let mut cover = Cover { cut, options, newest, meta, rng, choices: Vec::new() };
    let exhaustive = fits(cut.atoms.len(), options.exhaustive_max);
    if exhaustive {
        cover.all_subsets_of_atoms();
    } else {
        if fits(cut.of_change.len(), options.exhaustive_max) {
            cover.all_subsets_of_changes();
        } else {
            cover.some_subsets_of_changes();
        }
        cover.tears();
        cover.random();
    }
    cover.lengths();
    if options.garbage {
        cover.garbage();
    }
    (cover.choices, exhaustive)
}

/// A random state of a model, every atom kept or lost by itself.
pub(crate) fn random_medium(model: &Model, seed: u64) -> Medium {
    let cut = Cut::new(0, 0, model, &|_| false);
    let mut rng = Rng::new(seed);
    let mut atoms = Atoms::none(cut.atoms.len());
    (0..cut.atoms.len()).filter(|_| rng.chance(128)).for_each(|atom| atoms.insert(atom));
    cut.medium(&atoms, None)
}

/// Whether there are at most `most` subsets of so many things.
fn fits(things: usize, most: usize) -> bool {
    things < usize::BITS as usize && 1usize << things <= most
}

impl Cover<'_> {
    fn none(&self) -> Atoms {
        Atoms::none(self.cut.atoms.len())
    }

    fn all(&self) -> Atoms {
        let mut all = self.none();
        all.insert_all(0..self.cut.atoms.len());
        all
    }

    fn changes(&self) -> usize {
        self.cut.of_change.len()
    }

    /// Takes a state, unless the cut before had it.
    fn take(&mut self, kind: ImageKind, atoms: Atoms, tweak: Option<Tweak>) {
        let seen = |newest: usize| atoms.count_in(self.cut.of_change[newest].clone()) == 0;
        if tweak.is_none() && self.newest.is_some_and(seen) {
            return;
        }
        self.choices.push(Choice { kind, atoms, tweak });
    }

    /// Takes a state of the data under both fates of lengths and names: lost where they are not part of it, and kept.
    fn take_both(&mut self, kind: ImageKind, atoms: Atoms) {
        let mut kept = atoms.clone();
        kept.union(&self.meta);
        if kept != atoms {
            self.take(kind, kept, None);
        }
        self.take(kind, atoms, None);
    }

    fn subset_kind(bits: usize, things: usize) -> ImageKind {
        if bits == 0 {
            ImageKind::Nothing
        } else if bits == (1 << things) - 1 {
            ImageKind::Everything
        } else {
            ImageKind::Subset
        }
    }

    fn all_subsets_of_atoms(&mut self) {
        let count = self.cut.atoms.len();
        for bits in 0..1usize << count {
            let mut atoms = self.none();
            (0..count).filter(|atom| bits >> atom & 1 == 1).for_each(|atom| atoms.insert(atom));
            self.take(Self::subset_kind(bits, count), atoms, None);
        }
    }

    fn all_subsets_of_changes(&mut self) {
        let count = self.changes();
        for bits in 0..1usize << count {
            let mut atoms = self.none();
            for change in (0..count).filter(|change| bits >> change & 1 == 1) {
                atoms.insert_all(self.cut.of_change[change].clone());
            }
            self.take(Self::subset_kind(bits, count), atoms, None);
        }
    }

    fn some_subsets_of_changes(&mut self) {
        self.take_both(ImageKind::Nothing, self.none());
        self.take(ImageKind::Everything, self.all(), None);
        let mut prefix = self.none();
        for change in 0..self.changes() {
            let of_change = self.cut.of_change[change].clone();
            let mut alone = self.none();
            alone.insert_all(of_change.clone());
            self.take_both(ImageKind::Alone, alone);
            let mut others = self.all();
            others.remove_all(of_change.clone());
            self.take(ImageKind::AllBut, others, None);
            prefix.insert_all(of_change);
            self.take(ImageKind::Prefix, prefix.clone(), None);
        }
        self.pairs();
    }

    fn pairs(&mut self) {
        let count = self.changes();
        let pairs: Vec<(usize, usize)> = match self.newest {
            Some(newest) => {
                (0..count).filter(|other| *other != newest).map(|other| (other, newest)).collect()
            }
            None => {
                (0..count).flat_map(|first| (first + 1..count).map(move |second| (first, second))).collect()
            }
        };
        let most = self.options.pairs_max;
        for at in 0..pairs.len().min(most) {
            let (first, second) = if pairs.len() <= most { pairs[at] } else { *self.rng.pick(&pairs) };
            let mut pair = self.none();
            pair.insert_all(self.cut.of_change[first].clone());
            pair.insert_all(self.cut.of_change[second].clone());
            self.take_both(ImageKind::Pair, pair);
        }
    }

    /// The last writes, each torn between any two of its sectors, either half kept; with everything before it, with
    /// everything else, and alone.
    fn tears(&mut self) {
        for (back, change) in self.last_writes().into_iter().enumerate() {
            let sectors = self.cut.sectors_of(change);
            let of_change = self.cut.of_change[change].clone();
            let mut before = self.none();
            before.insert_all(0..sectors.start);
            before.insert_all(sectors.end..of_change.end);
            let mut others = self.all();
            others.remove_all(sectors.clone());
            let mut alone = self.none();
            alone.insert_all(sectors.end..of_change.end);
            for split in self.splits(sectors.len()) {
                let split = sectors.start + split;
                for half in [sectors.start..split, split..sectors.end] {
                    let mut torn = before.clone();
                    torn.insert_all(half.clone());
                    self.take(ImageKind::Torn, torn, None);
                    if back > 0 || of_change.end < self.cut.atoms.len() {
                        let mut torn = others.clone();
                        torn.insert_all(half.clone());
                        self.take(ImageKind::Torn, torn, None);
                    }
                    let mut torn = alone.clone();
                    torn.insert_all(half);
                    self.take_both(ImageKind::Torn, torn);
                }
                self.torn_with_length(change, split, &before);
            }
        }
    }

    /// A write that extends the file, torn, and the file ends where the tear is.
    fn torn_with_length(&mut self, change: usize, split: usize, before: &Atoms) {
        let Some(write) = self.cut.write(change).filter(|write| write.extend.is_some()) else { return };
        let tweak = Tweak::Length { file: write.file, len: self.cut.end_of(split - 1) };
        let mut torn = before.clone();
        torn.insert_all(self.cut.sectors_of(change).start..split);
        self.take(ImageKind::Torn, torn, Some(tweak));
    }

    /// The last writes of more than one atom, the last one first.
    fn last_writes(&self) -> Vec<usize> {
        let torn = |change: &usize| self.cut.sectors_of(*change).len() > 1;
        (0..self.changes()).rev().filter(torn).take(self.options.torn_writes).collect()
    }

    /// Where to split `len` sectors: everywhere if that is not too often, else at both ends and evenly between.
    fn splits(&self, len: usize) -> Vec<usize> {
        let most = self.options.splits_max.max(4);
        if len - 1 <= most {
            return (1..len).collect();
        }
        let mut splits: Vec<usize> = (1..=most / 4).flat_map(|at| [at, len - at]).collect();
        let between = most - splits.len();
        splits.extend((1..=between).map(|at| at * (len - 1) / (between + 1) + 1));
        splits.sort_unstable();
        splits.dedup();
        splits
    }

    fn random(&mut self) {
        for round in 0..self.options.random {
            let chance = [128, 32, 224, 128][round % 4];
            let mut atoms = self.none();
            for atom in 0..self.cut.atoms.len() {
                if self.rng.chance(chance) {
                    atoms.insert(atom);
                }
            }
            if let Some(newest) = self.newest {
                let of_change = self.cut.of_change[newest].clone();
                atoms.insert(of_change.start + self.rng.below(of_change.len() as u64) as usize);
            }
            self.take(ImageKind::Random, atoms, None);
        }
    }

    /// Lengths between the durable one and the live one (C7), at every sector if that is not too often, and one uneven.
    fn lengths(&mut self) {
        for (file, durable, live) in self.cut.lengths() {
            let (low, high) = (durable.min(live), durable.max(live));
            if high - low < 2 {
                continue;
            }
            let sector = SECTOR as u64;
            let first = low / sector + 1;
            let count = (high - 1) / sector + 1 - first.min((high - 1) / sector + 1);
            let most = (self.options.lengths_max as u64).min(count);
            let mut lengths: Vec<u64> = (0..most).map(|at| (first + at * count / most) * sector).collect();
            if self.options.lengths_max > 0 {
                lengths.push(low + 1 + self.rng.below(high - low - 1));
            }
            for len in lengths {
                let tweak = Some(Tweak::Length { file, len });
                self.take(ImageKind::Length, self.all(), tweak);
                self.take(ImageKind::Length, self.meta.clone(), tweak);
                self.take(ImageKind::Length, self.none(), tweak);
            }
        }
    }

    /// The last writes stopped inside a sector, which holds garbage then (C6).
    fn garbage(&mut self) {
        let writes = (0..self.changes()).rev().filter(|change| self.cut.write(*change).is_some());
        for change in writes.take(self.options.torn_writes).collect::<Vec<_>>() {
            let sectors = self.cut.sectors_of(change);
            let mut before = self.none();
            before.insert_all(0..sectors.start);
            before.insert_all(sectors.end..self.cut.of_change[change].end);
            let stops =
                std::iter::once(0).chain(if sectors.len() > 1 { self.splits(sectors.len()) } else { vec![] });
            for stop in stops {
                let atom = sectors.start + stop;
                if matches!(self.cut.atoms[atom].1, Part::Sectors { from, to, .. } if to - from > 1) {
                    continue; // page-atomic
                }
                let seed = self.rng.next_u64();
                let mut atoms = before.clone();
                atoms.insert_all(sectors.start..atom);
                self.take(ImageKind::Garbage, atoms, Some(Tweak::Garbage { atom, seed }));
            }
        }
    }
}
