//! One point at which the power is cut: what is durable there, and the atoms of what is pending.
//!
//! Invariant: an atom is on the medium whole or not at all. It is a sector of one write, 4 KiB of one write in a file
//! that is said to be page-atomic, one write that was asked to be atomic of a disk that keeps that, one change of a length, or one change of names.

use std::ops::Range;
use std::path::Path;

use crate::Rng;
use crate::rng::mix;
use crate::sim::{CHUNK, Change, FileId, LengthChange, Medium, Model, SECTOR, Walk, Write};

/// A set of atoms by their index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Atoms {
    words: Vec<u64>,
}

impl Atoms {
    pub(super) fn none(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(64)] }
    }

    pub(super) fn insert(&mut self, atom: usize) {
        self.words[atom / 64] |= 1 << (atom % 64);
    }

    pub(super) fn remove(&mut self, atom: usize) {
        self.words[atom / 64] &= !(1 << (atom % 64));
    }

    pub(super) fn insert_all(&mut self, atoms: Range<usize>) {
        atoms.for_each(|atom| self.insert(atom));
    }

    pub(super) fn remove_all(&mut self, atoms: Range<usize>) {
        atoms.for_each(|atom| self.remove(atom));
    }

    pub(super) fn union(&mut self, other: &Atoms) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    pub(super) fn contains(&self, atom: usize) -> bool {
        self.words[atom / 64] >> (atom % 64) & 1 == 1
    }

    pub(super) fn count_in(&self, atoms: Range<usize>) -> usize {
        atoms.filter(|atom| self.contains(*atom)).count()
    }
}

/// What an atom is of its change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// Sectors `from..to` of a piece of a write.
    Sectors { piece: usize, from: usize, to: usize },
    /// A length or a name. Journaling file systems keep these apart from the data.
    Meta,
}

/// A state that is no plain subset.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tweak {
    /// This file ends here, between two lengths that were set (C7).
    Length { file: FileId, len: u64 },
    /// This atom's sectors hold bytes that nobody wrote (C6).
    Garbage { atom: usize, seed: u64 },
}

/// What stands on the medium and what may, at one point of the journal.
#[derive(Debug)]
pub(super) struct Cut {
    /// How many operations happened.
    pub(super) index: usize,
    /// How many notes were made.
    pub(super) notes: usize,
    pub(super) model: Model,
    /// Which change an atom belongs to, and what of it.
    pub(super) atoms: Vec<(usize, Part)>,
    /// The atoms of each pending change.
    pub(super) of_change: Vec<Range<usize>>,
    walk: Walk,
}

impl Cut {
    pub(super) fn new(
        index: usize,
        notes: usize,
        model: &Model,
        page_atomic: &dyn Fn(&Path) -> bool,
    ) -> Self {
        let mut atoms = Vec::new();
        let mut of_change = Vec::with_capacity(model.pending.len());
        for (at, pending) in model.pending.iter().enumerate() {
            let first = atoms.len();
            match &pending.change {
                Change::Write(write) => {
                    let whole = write.atomic || page_atomic(&model.durable.files[&write.file].path);
                    for (piece, sectors) in write.pieces.iter().enumerate() {
                        let (from, to) = (sectors.from, sectors.to);
                        match atoms.last_mut() {
                            // Pieces of one page: it goes to the disk as it was in the cache, all of it.
                            Some((last, Part::Sectors { piece: first, to: end, .. }))
                                if whole && *last == at && write.pieces[*first].index == sectors.index =>
                            {
                                *end = to;
                            }
                            _ if whole => atoms.push((at, Part::Sectors { piece, from, to })),
                            _ => atoms.extend(
                                (from..to).map(|from| (at, Part::Sectors { piece, from, to: from + 1 })),
                            ),
                        }
                    }
                    if write.extend.is_some() {
                        atoms.push((at, Part::Meta));
                    }
                }
                Change::Length { .. } | Change::Name { .. } => atoms.push((at, Part::Meta)),
            }
            of_change.push(first..atoms.len());
        }
        Self { index, notes, model: model.clone(), atoms, of_change, walk: model.durable.names.walk() }
    }

    /// The atoms that are no data.
    pub(super) fn meta(&self) -> Atoms {
        let mut meta = Atoms::none(self.atoms.len());
        for (atom, (_, part)) in self.atoms.iter().enumerate() {
            if matches!(part, Part::Meta) {
                meta.insert(atom);
            }
        }
        meta
    }

    /// The sector atoms of a pending change: none if it is no write.
    pub(super) fn sectors_of(&self, change: usize) -> Range<usize> {
        let Range { start, end } = self.of_change[change].clone();
        let has_meta = end > start && matches!(self.atoms[end - 1].1, Part::Meta);
        start..end - usize::from(has_meta)
    }

    /// The write that a pending change is.
    pub(super) fn write(&self, change: usize) -> Option<&Write> {
        match &self.model.pending[change].change {
            Change::Write(write) => Some(write),
            _ => None,
        }
    }

    /// The byte behind the last sector of a sector atom.
    pub(super) fn end_of(&self, atom: usize) -> u64 {
        let (change, Part::Sectors { piece, to, .. }) = self.atoms[atom] else {
            unreachable!("only sectors have an end")
        };
        let piece = &self.write(change).expect("sectors are of a write").pieces[piece];
        (piece.index * CHUNK + to * SECTOR) as u64
    }

    /// The files whose length is pending, with the durable length and the live one.
    pub(super) fn lengths(&self) -> Vec<(FileId, u64, u64)> {
        let mut lengths: Vec<(FileId, u64, u64)> = Vec::new();
        for pending in &self.model.pending {
            let (file, change) = match &pending.change {
                Change::Write(Write { file, extend: Some(to), .. }) => (*file, LengthChange::Extend(*to)),
                Change::Length { file, change } => (*file, *change),
                _ => continue,
            };
            let at = lengths.iter().position(|(known, ..)| *known == file).unwrap_or_else(|| {
                let durable = self.model.durable.files[&file].bytes.len;
                lengths.push((file, durable, durable));
                lengths.len() - 1
            });
            let live = &mut lengths[at].2;
            *live = match change {
                LengthChange::Extend(to) => to.max(*live),
                LengthChange::Truncate(to) => to,
            };
        }
        lengths
    }

    /// The state with these atoms on the medium.
    pub(super) fn medium(&self, atoms: &Atoms, tweak: Option<Tweak>) -> Medium {
        let mut medium = self.model.durable.clone();
        for (change, of_change) in self.of_change.iter().enumerate() {
            let chosen = atoms.count_in(of_change.clone());
            if chosen == of_change.len() {
                medium.apply(&self.model.pending[change].change);
            } else if chosen > 0 {
                self.apply_some(&mut medium, change, atoms);
            }
        }
        match tweak {
            None => {}
            Some(Tweak::Length { file, len }) => medium.change_length(file, LengthChange::Truncate(len)),
            Some(Tweak::Garbage { atom, seed }) => self.spoil(&mut medium, atom, seed),
        }
        medium.trim();
        medium
    }

    /// A part of a write.
    fn apply_some(&self, medium: &mut Medium, change: usize, atoms: &Atoms) {
        let write = self.write(change).expect("other changes have one atom");
        let bytes = medium.bytes_mut(write.file);
        for atom in self.of_change[change].clone().filter(|atom| atoms.contains(*atom)) {
            match self.atoms[atom].1 {
                Part::Sectors { piece, from, to } => {
                    let piece = &write.pieces[piece];
                    bytes.content.put_sectors(piece.index, &piece.chunk, from, to);
                }
                Part::Meta => bytes.extend(write.extend.expect("the atom says so")),
            }
        }
    }

    fn spoil(&self, medium: &mut Medium, atom: usize, seed: u64) {
        let (change, Part::Sectors { piece, from, to }) = self.atoms[atom] else { return };
        let write = self.write(change).expect("sectors are of a write");
        let mut garbage = vec![0; (to - from) * SECTOR];
        Rng::new(seed).fill(&mut garbage);
        let at = write.pieces[piece].index * CHUNK + from * SECTOR;
        medium.bytes_mut(write.file).content.write(at, &garbage);
    }

    /// A hash of everything that can be seen in a state of this cut.
    pub(super) fn hash(&self, medium: &Medium) -> u64 {
        let walked;
        let walk = if std::sync::Arc::ptr_eq(&medium.names, &self.model.durable.names) {
            &self.walk
        } else {
            walked = medium.names.walk();
            &walked
        };
        walk.files.iter().fold(walk.directories, |hash, (mark, file)| {
            let bytes = &medium.files[file].bytes;
            hash.wrapping_add(mix(mark ^ mix(bytes.len ^ mix(bytes.content.hash().wrapping_add(1)))))
        })
    }
}
