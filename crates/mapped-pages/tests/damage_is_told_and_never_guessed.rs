//! Prevents: an older state taken for the last one without a word, a damaged page read as if it were whole, a foreign or cut file that is
//! mapped, a panic on any bytes.

use std::path::{Path, PathBuf};

use pagestone_mapped_pages::{DynPager, MappedOptions, MappedPageError, Pager, ProtectedPageId};
use tempfile::{TempDir, tempdir};

const ROOTS: [u64; 2] = [8192, 12288];

/// A file after some commits, and the allocated ids before and after the last one.
fn some_file() -> (TempDir, PathBuf, Vec<u64>, Vec<u64>) {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let mut pager = DynPager::create(&path, 12).expect("create");
    pager.alloc_bulk(5).expect("alloc");
    let before = ids(&pager);
    pager.alloc().expect("alloc");
    let after = ids(&pager);
    (dir, path, before, after)
}

fn ids(pager: &DynPager) -> Vec<u64> {
    pager.iter_allocated_pages().map(|id| id.0).collect()
}

fn change(path: &Path, at: u64, change: impl Fn(&mut u8)) {
    let mut bytes = std::fs::read(path).expect("read");
    change(&mut bytes[at as usize]);
    std::fs::write(path, bytes).expect("write");
}

/// Which root is the newer: its sequence stands behind its magic.
fn newer(path: &Path) -> u64 {
    let bytes = std::fs::read(path).expect("read");
    let sequence =
        |at: u64| u64::from_le_bytes(bytes[at as usize + 8..at as usize + 16].try_into().expect("eight"));
    ROOTS.into_iter().max_by_key(|at| sequence(*at)).expect("two")
}

#[test]
fn a_damaged_last_commit_is_corrupt_metadata_and_the_one_before_has_to_be_asked_for() {
    for at in (0..4096).step_by(97) {
        let (_dir, path, before, after) = some_file();
        change(&path, newer(&path) + at, |byte| *byte ^= 0x20);
        let error = DynPager::open(&path).expect_err("damaged");
        assert!(matches!(error, MappedPageError::CorruptMetadata { .. }), "byte {at}: {error}");
        assert!(DynPager::read_only(&path).is_err());
        let older = MappedOptions::new().accept_older(true).open(&path).expect("the one before");
        assert_eq!(ids(&older), before);
        drop(older);
        // Opening changed nothing: the flip put right, it is the last commit again.
        change(&path, newer(&path) + at, |byte| *byte ^= 0x20);
        assert_eq!(ids(&DynPager::open(&path).expect("whole")), after);
    }
}

#[test]
fn damage_to_the_older_root_takes_nothing() {
    let (_dir, path, _, after) = some_file();
    let older = ROOTS.into_iter().find(|at| *at != newer(&path)).expect("two");
    change(&path, older + 100, |byte| *byte ^= 1);
    let mut pager = DynPager::open(&path).expect("the last commit is whole");
    assert_eq!(ids(&pager), after);
    pager.alloc().expect("and is gone on from");
    drop(pager);
    assert_eq!(ids(&DynPager::open(&path).expect("whole")).len(), after.len() + 1);
}

#[test]
fn two_damaged_roots_two_damaged_superblocks_and_a_root_of_zeros_are_errors() {
    let (_dir, path, ..) = some_file();
    ROOTS.iter().for_each(|at| change(&path, at + 9, |byte| *byte ^= 1));
    let options = MappedOptions::new().accept_older(true);
    assert!(matches!(options.open(&path), Err(MappedPageError::CorruptMetadata { .. })));

    let (_dir, path, _, after) = some_file();
    change(&path, 50, |byte| *byte = 1);
    assert_eq!(ids(&DynPager::open(&path).expect("the second copy")), after);
    change(&path, 4096 + 50, |byte| *byte = 1);
    assert!(matches!(DynPager::open(&path), Err(MappedPageError::CorruptSuperblock { .. })));

    let (_dir, path, ..) = some_file();
    let at = newer(&path);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[at as usize..at as usize + 4096].fill(0);
    std::fs::write(&path, bytes).expect("write");
    assert!(matches!(DynPager::open(&path), Err(MappedPageError::CorruptMetadata { .. })));
}

/// Blocks below the root: a flip in one that counts, or an older one in its place.
#[test]
fn a_damaged_or_older_block_is_corrupt_metadata() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let mut pager = MappedOptions::new().reserve(false).create(&path, 10).expect("create");
    let first = pager.alloc_bulk(16_000).expect("a fold");
    pager.free_bulk(&first[8000..]).expect("words");
    let again = pager.alloc_bulk(8000).expect("words");
    pager.free_bulk(&again[..4000]).expect("words");
    pager.alloc_bulk(12_000).expect("another fold");
    let expected = ids(&pager);
    drop(pager);
    let slots = [16_384, 16_384 + 4096];
    let bytes = std::fs::read(&path).expect("read");
    let sequence =
        |at: u64| u64::from_le_bytes(bytes[at as usize + 16..at as usize + 24].try_into().expect("eight"));
    let counts = slots.into_iter().max_by_key(|at| sequence(*at)).expect("two");
    assert!(sequence(counts) > 0);
    for at in [0, 8, 16, 56, 64, 2000, 4095] {
        change(&path, counts + at, |byte| *byte ^= 4);
        let error = DynPager::open(&path).expect_err("damaged");
        assert!(matches!(error, MappedPageError::CorruptMetadata { .. }), "byte {at}: {error}");
        change(&path, counts + at, |byte| *byte ^= 4);
    }
    assert_eq!(ids(&DynPager::open(&path).expect("whole again")), expected);
}

#[test]
fn a_flipped_byte_in_the_active_copy_is_an_error_on_read_and_the_other_copy_is_nobodys() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("pages");
    let mut pager = Pager::<4096>::create(&path).expect("create");
    let id: ProtectedPageId<4096> = pager.alloc_protected().expect("alloc");
    for round in [b'a', b'b'] {
        let mut writer = id.get_mut(&mut pager).expect("writer");
        writer.page_mut().as_bytes_mut()[..3000].fill(round);
        writer.commit().expect("commit");
    }
    drop(pager);
    let bytes = std::fs::read(&path).expect("read");
    let find = |byte: u8| {
        bytes.windows(3000).position(|window| window.iter().all(|other| *other == byte)).expect("there")
    };
    let (older, active) = (find(b'a') as u64, find(b'b') as u64);
    change(&path, older + 7, |byte| *byte ^= 1);
    assert_eq!(id.get(&Pager::open(&path).expect("open")).expect("whole").as_bytes()[2999], b'b');
    for at in [0, 2999, 3000, 4095] {
        change(&path, active + at, |byte| *byte ^= 1);
        let mut pager = Pager::open(&path).expect("the directory is whole");
        assert!(matches!(id.get(&pager), Err(MappedPageError::CorruptProtectedPage { .. })), "byte {at}");
        assert!(matches!(id.get_mut(&mut pager), Err(MappedPageError::CorruptProtectedPage { .. })));
        pager.free_protected(id).expect("a damaged page can be got rid of");
        drop(pager);
        std::fs::write(&path, &bytes).expect("restore");
    }
}

#[test]
fn what_is_no_file_of_ours_or_was_cut_is_refused_before_it_is_mapped() {
    let (_dir, path, ..) = some_file();
    let whole = std::fs::read(&path).expect("read");
    for len in (0..whole.len()).step_by(1000).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..len]).expect("cut");
        let error = DynPager::open(&path).expect_err("cut");
        let is_told = matches!(
            error,
            MappedPageError::CorruptSuperblock { .. } | MappedPageError::CorruptMetadata { .. }
        );
        assert!(is_told, "{len} bytes: {error}");
        assert_eq!(std::fs::read(&path).expect("read").len(), len, "refused and left alone");
    }
    for foreign in [vec![0; 100_000], b"PGPAGES\0".repeat(9000), vec![0xff; 20_000]] {
        std::fs::write(&path, &foreign).expect("write");
        assert!(matches!(DynPager::open(&path), Err(MappedPageError::CorruptSuperblock { .. })));
        assert_eq!(std::fs::read(&path).expect("read"), foreign);
    }
    std::fs::write(&path, [&whole[..], &[7; 9999]].concat()).expect("junk behind the end");
    let mut pager = DynPager::open(&path).expect("open");
    pager.alloc_bulk(1000).expect("grows over it");
}

#[test]
fn a_file_has_one_writer_or_many_readers_and_keeps_its_page_size() {
    let (_dir, path, _, after) = some_file();
    let reader = DynPager::read_only(&path).expect("open");
    let other = DynPager::read_only(&path).expect("beside it");
    assert_eq!((ids(&reader), ids(&other)), (after.clone(), after));
    assert!(matches!(DynPager::open(&path), Err(MappedPageError::Locked { .. })));
    drop((reader, other));
    let pager = DynPager::open(&path).expect("open");
    assert!(matches!(DynPager::open(&path), Err(MappedPageError::Locked { .. })));
    assert!(matches!(DynPager::read_only(&path), Err(MappedPageError::Locked { .. })));
    drop(pager);
    assert!(matches!(Pager::<1024>::open(&path), Err(MappedPageError::InvalidPageSize { .. })));
    for create in [DynPager::create(&path, 12), DynPager::create(&path, 10)] {
        let error = create.expect_err("it is there");
        assert!(
            matches!(&error, MappedPageError::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
        );
    }
    for log2 in [0, 9, 31, u32::MAX] {
        let created = DynPager::create(path.with_extension("other"), log2);
        assert!(matches!(created, Err(MappedPageError::InvalidPageSize { .. })));
    }
}
