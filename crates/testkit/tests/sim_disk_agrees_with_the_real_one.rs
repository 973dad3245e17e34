//! What a store proves on a simulated disk that behaves otherwise than a real one, it proves of nothing. Long random
//! sequences of calls, the same on both: the same results, the same errors.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagestone_direct_io::{
    Create, DirectIo, Disk, File, OpenHow, RealDisk, read_exact_at, read_exact_vectored_at, write_all_at,
    write_all_vectored_at,
};
use pagestone_testkit::{Rng, SimDisk};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "d/a", "d/b", "a/b"];

/// A disk below a directory.
struct Side<'a> {
    disk: &'a dyn Disk,
    root: PathBuf,
    handles: Vec<Arc<dyn File>>,
}

impl Side<'_> {
    /// One call, chosen by `rng`, and what came of it as text.
    fn step(&mut self, rng: &mut Rng) -> String {
        let path = self.root.join(rng.pick(&NAMES));
        match rng.below(12) {
            0 => told(self.disk.create_dir(&path)),
            1 => told(self.rename(&path, &self.root.join(rng.pick(&NAMES)))),
            2 => told(self.remove(&path)),
            3 => told(self.disk.list(&path)),
            4 => told(self.disk.kind(&path)),
            5 => told(self.disk.sync_dir(&self.root)),
            6 | 7 => {
                let create = *rng.pick(&[Create::Existing, Create::New, Create::OpenOrNew]);
                let how = OpenHow { create, write: true, direct: DirectIo::Off };
                told(self.disk.open(&path, &how).map(|file| self.handles.push(file)))
            }
            _ if self.handles.is_empty() => String::new(),
            _ => {
                let at = rng.below(self.handles.len() as u64) as usize;
                if rng.chance(20) {
                    return format!("closed {}", Arc::strong_count(&self.handles.swap_remove(at)));
                }
                work(&*self.handles[at], rng)
            }
        }
    }

    /// Directories that replace one another are no business of pagestone's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let kind = |path| self.disk.kind(path);
        if kind(to)? == Some(pagestone_direct_io::PathKind::Directory) && kind(from)? == kind(to)? {
            return Ok(());
        }
        self.disk.rename(from, to)
    }

    /// Systems disagree on the error for a directory.
    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.disk.kind(path)? == Some(pagestone_direct_io::PathKind::Directory) {
            return Ok(());
        }
        self.disk.remove_file(path)
    }
}

fn work(file: &dyn File, rng: &mut Rng) -> String {
    let (offset, len) = (rng.below(20_000), rng.below(9000));
    match rng.below(11) {
        0 | 1 => {
            let mut bytes = vec![0; len as usize];
            rng.fill(&mut bytes);
            told(write_all_at(file, &bytes, offset))
        }
        2 | 3 => {
            let mut bytes = vec![0; len as usize];
            told(read_exact_at(file, &mut bytes, offset).map(|got| bytes[..got].to_vec()))
        }
        4 => told(file.set_len(offset)),
        5 => told(file.reserve(offset, 1 + len)),
        6 => told(had(file.drop_cache())),
        7 => told(had(file.punch_hole(offset, len))),
        8 => {
            let mut bytes = vec![0; len as usize];
            rng.fill(&mut bytes);
            let (one, other) = bytes.split_at(rng.below(1 + len) as usize);
            told(write_all_vectored_at(file, &[IoSlice::new(one), IoSlice::new(other)], offset))
        }
        9 => {
            let mut bytes = vec![0; len as usize];
            let (one, other) = bytes.split_at_mut(rng.below(1 + len) as usize);
            let mut parts = [IoSliceMut::new(one), IoSliceMut::new(&mut []), IoSliceMut::new(other)];
            let got = read_exact_vectored_at(file, &mut parts, offset);
            told(got.map(|got| bytes[..got].to_vec()))
        }
        _ => told(file.sync().and_then(|()| Ok((file.len()?, file.is_empty()?, file.is_direct())))),
    }
}

/// Linux has every call; where another system has not, nothing changes, and nothing would by the call.
fn had(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if !cfg!(target_os = "linux") && error.kind() == ErrorKind::Unsupported => Ok(()),
        had => had,
    }
}

fn told<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    format!(
        "{:?}",
        result.map_err(|error| match error.kind() {
            // Windows does not tell a component that is a file from one that is not there.
            ErrorKind::NotADirectory if cfg!(windows) => ErrorKind::NotFound,
            kind => kind,
        })
    )
}

#[test]
fn the_same_calls_have_the_same_results() {
    let mut done = 0;
    for seed in 0..25 {
        let dir = tempfile::tempdir().expect("a directory");
        let sim = SimDisk::new(seed);
        let mut real = Side { disk: &RealDisk, root: dir.path().to_path_buf(), handles: Vec::new() };
        let mut simulated = Side { disk: &sim, root: PathBuf::from("/"), handles: Vec::new() };
        let (mut one, mut other) = (Rng::new(seed), Rng::new(seed));
        for step in 0..200 {
            let expected = real.step(&mut one);
            assert_eq!(simulated.step(&mut other), expected, "seed {seed}, step {step}");
            done += usize::from(expected.starts_with("Ok"));
        }
        assert_eq!(sim.audit(), []);
    }
    assert!(done > 1000, "{done} calls succeeded");
}
