//! What an engine writes into the log comes back in order after the log was opened again.

use std::sync::Arc;

use pagestone_direct_io::{Disk, RealDisk};
use pagestone_page_format::{Lsn, Poison, StoreUuid};
use pagestone_wal::{Wal, WalOptions, WalStart};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("pagestone-downstream-wal-{}", std::process::id()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let uuid = StoreUuid::new([3; 16]);
    let options = WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, ..WalOptions::default() };
    let start = |generation| WalStart {
        uuid,
        generation,
        checkpoint: Lsn::ZERO,
        keep_from: Lsn::ZERO,
        newest_copy_lost: false,
        poison: Poison::new(),
    };

    Wal::create(disk.clone(), dir.clone(), &options, uuid)?;
    let mut recovery = Wal::open(disk.clone(), dir.clone(), &options, start(0))?;
    recovery.replay(|_| panic!("a new log is empty"))?;
    let wal = recovery.start(1)?;
    let mut last = Lsn::ZERO;
    for number in 0..100u64 {
        last = wal.append_logical(0x4000, &number.to_le_bytes())?;
    }
    wal.wait_durable(last)?;
    assert!(wal.is_lsn_durable(last));
    drop(wal);

    let mut found = Vec::new();
    let mut recovery = Wal::open(disk, dir.clone(), &options, start(1))?;
    recovery.replay(|group| {
        found.extend(group.records().map(|record| record.payload.to_vec()));
        Ok(())
    })?;
    assert!(
        found.iter().map(Vec::as_slice).eq((0..100u64)
            .map(u64::to_le_bytes)
            .collect::<Vec<_>>()
            .iter()
            .map(<[u8; 8]>::as_slice))
    );
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
