//! One state after a power cut.

use std::fmt;
use std::sync::Arc;

use super::cover::Choice;
use super::cut::{Cut, Tweak};
use super::states::Origin;
use crate::sim::{Change, LengthChange, Medium, NameChange, SimDisk};

/// Why an image was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum ImageKind {
    /// No pending change survived.
    Nothing,
    /// Every pending change survived.
    Everything,
    /// One of all subsets.
    Subset,
    /// One change survived.
    Alone,
    /// One change was lost.
    AllBut,
    /// Those survived that were issued first.
    Prefix,
    /// Two changes survived.
    Pair,
    /// One write was torn between two sectors.
    Torn,
    /// Every sector, length and name by lot.
    Random,
    /// A file ends between two lengths that it had.
    Length,
    /// A sector holds what nobody wrote.
    Garbage,
}

impl fmt::Display for ImageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One legal state of a disk after a power cut.
#[derive(Clone)]
pub struct CrashImage {
    pub(super) origin: Arc<Origin>,
    pub(super) cut: Arc<Cut>,
    pub(super) choice: Choice,
    pub(super) medium: Medium,
}

impl CrashImage {
    /// A fresh disk in this state: everything on it is durable, its journal is empty, no fault is planned. Every call
    /// gives another one.
    pub fn disk(&self) -> SimDisk {
        SimDisk::from_medium(self.medium.clone(), self.origin.options.clone(), self.origin.next_node)
    }

    /// What was noted before the cut, in order.
    pub fn acknowledged(&self) -> &[u64] {
        &self.origin.notes[..self.cut.notes]
    }

    /// How many operations of the journal happened before the cut.
    pub fn cut(&self) -> usize {
        self.cut.index
    }

    /// Why it was looked at.
    pub fn kind(&self) -> ImageKind {
        self.choice.kind
    }

    /// A hash of everything that can be seen on the disk in this state: equal states have equal ones, whichever enumeration
    /// they come from.
    pub fn fingerprint(&self) -> u64 {
        self.cut.hash(&self.medium)
    }

    /// What survived and what did not, a line for each pending change: for the message of a failed assertion.
    pub fn explain(&self) -> String {
        let mut text = format!(
            "power cut after {} of {} operations, {} noted; {} ({} changes pending)\n",
            self.cut.index,
            self.origin.operations,
            self.cut.notes,
            self.choice.kind,
            self.cut.of_change.len()
        );
        for (change, atoms) in self.cut.of_change.iter().enumerate() {
            let kept = self.choice.atoms.count_in(atoms.clone());
            let fate = match kept {
                0 => "lost ".to_owned(),
                _ if kept == atoms.len() => "kept ".to_owned(),
                _ => format!("{kept}/{} ", atoms.len()),
            };
            let pending = &self.cut.model.pending[change];
            text += &format!("  {fate}#{} {}\n", pending.operation, self.describe(&pending.change));
        }
        match self.choice.tweak {
            None => {}
            Some(Tweak::Length { file, len }) => {
                text += &format!("  and {} ends at {len}\n", self.path(file));
            }
            Some(Tweak::Garbage { atom, .. }) => {
                let change = self.cut.atoms[atom].0;
                let sector = atom - self.cut.of_change[change].start;
                text += &format!(
                    "  and sector {sector} of #{} holds garbage\n",
                    self.cut.model.pending[change].operation
                );
            }
        }
        text
    }

    fn path(&self, file: crate::sim::FileId) -> String {
        self.cut.model.durable.files[&file].path.display().to_string()
    }

    fn describe(&self, change: &Change) -> String {
        match change {
            Change::Write(write) => {
                let grew = write.extend.map_or(String::new(), |to| format!(", extends to {to}"));
                let (path, end) = (self.path(write.file), write.offset + write.len);
                if write.mapped {
                    let sectors: usize = write.pieces.iter().map(|piece| piece.to - piece.from).sum();
                    return format!(
                        "{sectors} sectors of {path} seen in a map, {}..{end}{grew}",
                        write.offset
                    );
                }
                format!("write {path} {}..{end}{grew}", write.offset)
            }
            Change::Length { file, change: LengthChange::Extend(to) } => {
                format!("extend {} to {to}", self.path(*file))
            }
            Change::Length { file, change: LengthChange::Truncate(to) } => {
                format!("truncate {} to {to}", self.path(*file))
            }
            Change::Name { change: NameChange::Link { at, .. }, .. } => {
                format!("create {}", at.name.display())
            }
            Change::Name { change: NameChange::Rename { from, to, .. }, .. } => {
                format!("rename {} to {}", from.name.display(), to.name.display())
            }
            Change::Name { change: NameChange::Unlink { at, .. }, .. } => {
                format!("remove {}", at.name.display())
            }
        }
    }
}

impl fmt::Debug for CrashImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain())
    }
}
