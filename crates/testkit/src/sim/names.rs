//! Directories and the names in them.
//!
//! Invariant: a file or directory has at most one name. So an unsynced rename shows the old name or the new one, never
//! both, whichever other changes survive beside it (C9).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Arc;

use crate::rng::mix;

/// A directory, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct DirId(pub(crate) u32);

/// A file, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct FileId(pub(crate) u32);

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Node {
    File(FileId),
    Dir(DirId),
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    pub(crate) dir: DirId,
    pub(crate) name: Arc<OsStr>,
}

/// One change of names.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    /// A file or directory was made.
    Link { at: Entry, node: Node },
    /// It got another name, which may have been another file's.
    Rename { from: Entry, to: Entry, node: Node },
    /// A file lost its name.
    Unlink { at: Entry, node: Node },
}

impl NameChange {
    /// The entries that it changes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let (first, second) = match self {
            Self::Link { at, .. } | Self::Unlink { at, .. } => (at, None),
            Self::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }
}

/// The root directory. It needs no name and is always durable.
pub(crate) const ROOT: DirId = DirId(0);

/// Every name of a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    entries: BTreeMap<Entry, Node>,
}

impl Names {
    /// Makes one change. It is defined for every set of changes that survived before it.
    pub(crate) fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Link { at, node } => {
                self.entries.insert(at.clone(), *node);
            }
            NameChange::Rename { to, node, .. } => {
                self.entries.retain(|_, there| there != node);
                self.entries.insert(to.clone(), *node);
            }
            NameChange::Unlink { node, .. } => self.entries.retain(|_, there| there != node),
        }
    }

    /// What an entry stands for.
    pub(crate) fn get(&self, entry: &Entry) -> Option<Node> {
        self.entries.get(entry).copied()
    }

    /// The entry that a path names, whether something stands there or not. `NotFound` or `NotADirectory` if its
    /// directory is none, `InvalidInput` for the root and for `..`.
    pub(crate) fn entry(&self, path: &Path) -> io::Result<Entry> {
        let mut dir = ROOT;
        let mut last: Option<&OsStr> = None;
        for name in components(path)? {
            if let Some(name) = last.replace(name) {
                dir = self.directory_in(dir, name)?;
            }
        }
        match last {
            Some(name) => Ok(Entry { dir, name: name.into() }),
            None => Err(io::Error::new(ErrorKind::InvalidInput, "the root has no name")),
        }
    }

    /// The directory that a path names.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<DirId> {
        let mut dir = ROOT;
        for name in components(path)? {
            dir = self.directory_in(dir, name)?;
        }
        Ok(dir)
    }

    fn directory_in(&self, dir: DirId, name: &OsStr) -> io::Result<DirId> {
        match self.get(&Entry { dir, name: name.into() }) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The names in a directory, sorted.
    pub(crate) fn list(&self, dir: DirId) -> Vec<OsString> {
        self.children(dir).map(|(name, _)| name.to_os_string()).collect()
    }

    fn children(&self, dir: DirId) -> impl Iterator<Item = (&OsStr, Node)> {
        let first = Entry { dir, name: OsStr::new("").into() };
        let of_dir = self.entries.range(first..).take_while(move |(entry, _)| entry.dir == dir);
        of_dir.map(|(entry, node)| (&*entry.name, *node))
    }

    /// Everything that can be reached from the root. What stands in a directory that has no name cannot.
    pub(crate) fn walk(&self) -> Walk {
        let mut walk = Walk { files: Vec::new(), directories: 0 };
        let mut todo = vec![(ROOT, 0u64)];
        while let Some((dir, mark)) = todo.pop() {
            for (name, node) in self.children(dir) {
                let mark = name
                    .as_encoded_bytes()
                    .iter()
                    .fold(mix(mark ^ 0x2f), |mark, byte| mix(mark ^ u64::from(*byte)));
                match node {
                    Node::File(file) => walk.files.push((mark, file)),
                    Node::Dir(dir) => {
                        walk.directories = walk.directories.wrapping_add(mix(mark ^ 1));
                        todo.push((dir, mark));
                    }
                }
            }
        }
        walk
    }
}

/// What can be reached, with a hash of every path.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// Hash of the path, file.
    pub(crate) files: Vec<(u64, FileId)>,
    /// Sum over the directories.
    pub(crate) directories: u64,
}

/// The names along a path; a leading `/` and `.` say nothing.
fn components(path: &Path) -> io::Result<impl Iterator<Item = &OsStr>> {
    let strange = |part: &Component<'_>| matches!(part, Component::ParentDir | Component::Prefix(_));
    if path.components().any(|part| strange(&part)) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "a simulated disk has no `..`"));
    }
    Ok(path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    }))
}
