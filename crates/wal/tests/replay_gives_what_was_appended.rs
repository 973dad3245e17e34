//! Prevents: a group lost, doubled, mixed or cut because of where it happened to lie.
#![cfg(not(loom))]

mod common;

use std::path::Path;

use common::{DIR, append, commit, create, fresh, group, open, options, recover, replay, start};
use pagestone_direct_io::Disk;
use pagestone_page_format::{Lsn, PageId};
use pagestone_testkit::{DiskOp, FaultPlan, Rng, SimDisk};
use pagestone_wal::{GroupBuilder, RecordKind, WalError, WalOptions};

#[test]
fn groups_of_every_size_cross_blocks_and_segments() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let max = wal.max_group_bytes();
    let overhead = group((1, 0), 70_000 / 2).encoded_len() - 70_000 / 2;
    let mut lens: Vec<usize> = (8..300).step_by(7).collect();
    lens.extend((3900..4200).step_by(3));
    lens.extend([max - overhead, 8, max - overhead - 1, max / 2, 5000, max - overhead]);
    for (number, len) in lens.iter().enumerate() {
        let id = (1, number as u32);
        if number % 3 == 0 {
            commit(&wal, id, *len);
        } else {
            append(&wal, id, *len);
        }
    }
    wal.flush().expect("flush");
    let (stats, end) = (wal.stats(), wal.end_lsn());
    assert!(stats.segments > 3 && stats.groups == lens.len() as u64);
    drop(wal);
    let (found, report) = recover(&disk, &options, start(1)).expect("recover");
    assert_eq!(found, (0..lens.len() as u32).map(|number| (1, number)).collect::<Vec<_>>());
    assert_eq!((report.end, report.max_generation, report.torn_tail), (end, 1, false));
}

#[test]
fn every_group_boundary_is_a_place_to_start_from_and_nothing_else_is() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let mut rng = Rng::new(7);
    let mut bounds = Vec::new();
    for number in 0..120 {
        let (from, to) =
            append(&wal, (1, number), 8 + rng.below(700) as usize * (1 + usize::from(number % 30 == 9) * 20));
        bounds.push((from, to));
        if rng.below(3) == 0 {
            wal.flush().expect("flush");
        }
    }
    wal.flush().expect("flush");
    drop(wal);
    for (number, (from, to)) in bounds.iter().enumerate() {
        for (checkpoint, first) in [(*from, number), (*to, number + 1)] {
            let from_there = common::start(1);
            let from_there = pagestone_wal::WalStart { checkpoint, ..from_there };
            let (found, report) = recover(&disk, &options, from_there).expect("recover");
            let wanted: Vec<_> = (first as u32..120).map(|number| (1, number)).collect();
            assert_eq!((found, report.end), (wanted, bounds[119].1), "from {checkpoint}");
        }
        let inside = Lsn::new(from.get() + 3);
        let from_there = pagestone_wal::WalStart { checkpoint: inside, ..common::start(1) };
        assert!(matches!(recover(&disk, &options, from_there), Err(WalError::WalCorrupt { .. })), "{inside}");
    }
}

#[test]
fn generations_follow_one_another_whether_or_not_they_wrote() {
    let options = options();
    let disk = SimDisk::new(3);
    create(&disk, &options);
    let mut wanted = Vec::new();
    let mut ends = Vec::new();
    for generation in 1..30u32 {
        let mut recovery = open(&disk, &options, start(u64::from(generation) - 1)).expect("open");
        let (found, report) = replay(&mut recovery).expect("replay");
        assert_eq!(found, wanted, "before generation {generation}");
        let wal = recovery.start(generation.into()).expect("start");
        assert_eq!((wal.end_lsn(), wal.durable_lsn()), (report.end, report.end));
        for number in 0..generation % 4 {
            ends.push(commit(&wal, (generation, number), 100 + (generation * number * 377 % 9000) as usize));
            wanted.push((generation, number));
        }
    }
    for (number, end) in ends.iter().enumerate() {
        let from_there = pagestone_wal::WalStart { checkpoint: *end, ..start(29) };
        let (found, report) = recover(&disk, &options, from_there).expect("recover");
        assert_eq!((&found[..], Some(&report.end)), (&wanted[number + 1..], ends.last()));
    }
}

#[test]
fn records_of_every_kind_come_back() {
    let options = options();
    let (disk, wal) = fresh(&options);
    let mut group = GroupBuilder::new();
    group.push_logical(0x7fff, b"logical");
    group.push_page_image(PageId::new(9), &[4; 4096]);
    group.push_page_patch(PageId::new(1 << 40), 12, b"patch");
    let space = wal.reserve(GroupBuilder::bound(3, 7 + 4096 + 9)).expect("reserve");
    assert!(space.bytes() >= group.encoded_len());
    let end = wal.append(space, &mut group).end;
    let last = wal.append_page_patch(PageId::new(3), 8, b"alone").expect("append");
    wal.append_logical(1, b"").expect("append");
    wal.append_page_image(PageId::new(2), &[1; 512]).expect("append");
    wal.flush_at_least(last).expect("flush");
    assert!(wal.is_lsn_durable(end) && wal.commit().expect("durable") > last);
    drop(wal);
    let mut kinds = Vec::new();
    let mut recovery = open(&disk, &options, start(1)).expect("open");
    let report = recovery
        .replay(|group| {
            kinds.push(group.records().map(|record| (record.kind, record.page.get())).collect::<Vec<_>>());
            Ok(())
        })
        .expect("replay");
    use RecordKind::{Logical, PageImage, PagePatch};
    assert_eq!(kinds[0], [(Logical, 0), (PageImage, 9), (PagePatch, 1 << 40)]);
    assert_eq!(kinds[1..], [vec![(PagePatch, 3)], vec![(Logical, 0)], vec![(PageImage, 2)]]);
    assert_eq!((report.groups, report.records), (4, 6));
}

#[test]
fn a_refused_group_stops_replay_with_its_error() {
    let options = options();
    let (disk, wal) = fresh(&options);
    commit(&wal, (1, 0), 10);
    drop(wal);
    let mut recovery = open(&disk, &options, start(1)).expect("open");
    let refused = recovery.replay(|_| {
        Err(pagestone_page_format::PageError::Mismatch { expected: "a".into(), found: "b".into() })
    });
    assert!(matches!(refused, Err(WalError::Page(_))), "{refused:?}");
    assert_eq!(replay(&mut recovery).expect("again").0, [(1, 0)]);
}

#[test]
fn segments_of_another_size_live_side_by_side() {
    let small = options();
    let large = WalOptions { segment_bytes: 128 << 10, ..small.clone() };
    let (disk, wal) = fresh(&small);
    let mut wanted = Vec::new();
    let mut wal = Some(wal);
    for generation in 1..8u32 {
        let options = if generation % 2 == 0 { &large } else { &small };
        let wal = wal.take().unwrap_or_else(|| {
            open(&disk, options, start(u64::from(generation) - 1))
                .expect("open")
                .start(generation.into())
                .expect("start")
        });
        for number in 0..40 {
            append(&wal, (generation, number), 2000);
            wanted.push((generation, number));
        }
        wal.flush().expect("flush");
    }
    assert_eq!(recover(&disk, &small, start(7)).expect("recover").0, wanted);
}

#[test]
fn reading_ahead_changes_nothing() {
    let options =
        WalOptions { segment_bytes: 3 << 20, log_bytes: 64 << 20, buffer_bytes: 1 << 20, ..options() };
    let ahead = WalOptions { read_ahead: true, ..options.clone() };
    let (disk, wal) = fresh(&options);
    let mut ends = Vec::new();
    for number in 0..1000 {
        ends.push(append(&wal, (1, number), 8 + (number as usize * 7919) % 20_000).1);
    }
    wal.flush().expect("flush");
    drop(wal);
    for checkpoint in [Lsn::ZERO, ends[0], ends[400], ends[700], ends[999]] {
        let from_there = pagestone_wal::WalStart { checkpoint, ..start(1) };
        let alone = recover(&disk, &options, from_there.clone()).expect("recover");
        assert_eq!(recover(&disk, &ahead, from_there).expect("recover"), alone, "from {checkpoint}");
    }
    let reads = disk.calls(DiskOp::Read);
    recover(&disk, &ahead, start(1)).expect("recover");
    for read in 0..disk.calls(DiskOp::Read) - reads {
        let fault = disk.fail(FaultPlan::errno(5).on(DiskOp::Read).skip(read));
        match recover(&disk, &ahead, start(1)) {
            Err(WalError::Io { .. }) => {}
            Ok((found, _)) => {
                assert_eq!(found.len(), 1000, "only a read that nobody asked for may fail unnoticed")
            }
            Err(error) => panic!("{error}"),
        }
        disk.heal();
        assert!(disk.injected(fault) <= 1);
    }
}

#[test]
fn a_second_replay_gives_the_same_or_says_that_the_log_changed() {
    let options = options();
    let (disk, wal) = fresh(&options);
    for number in 0..200 {
        commit(&wal, (1, number), 300);
    }
    drop(wal);
    let mut recovery = open(&disk, &options, start(1)).expect("open");
    let mut read = [0; 3];
    for read in &mut read {
        let before = disk.calls(DiskOp::Read);
        let (found, report) = replay(&mut recovery).expect("replays");
        assert_eq!((found.len(), report.groups), (200, 200));
        *read = disk.calls(DiskOp::Read) - before;
    }
    assert!(read[1] < read[0] && read[1] == read[2], "{read:?}: what lies behind the end is looked at once");
    let first = Disk::list(&disk, Path::new(DIR)).expect("listed").remove(0);
    let path = Path::new(DIR).join(first);
    let len = disk.contents(&path).expect("there").len();
    disk.overwrite(&path, 0, &vec![0; len]).expect("written");
    assert!(matches!(replay(&mut recovery), Err(WalError::WalCorrupt { .. })));
}
