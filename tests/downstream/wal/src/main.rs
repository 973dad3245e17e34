//! What an engine writes into a log of its own, records and pages, comes back in order after the log was opened again.

use pagestone_direct_io::PageFile;
use pagestone_page_format::{DEFAULT_PAGE_SIZE, Lsn, Page, PageId};
use pagestone_wal::{CommitMode, DurableBy, GroupBuilder, RecordKind, Wal, WalError, WalOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("pagestone-downstream-wal-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let options = WalOptions { segment_bytes: 64 << 10, log_bytes: 1 << 20, ..WalOptions::default() };

    let log = Wal::open(dir.join("log"), &options)?.start_alone()?;
    let mut page = Page::new(DEFAULT_PAGE_SIZE, PageId::new(2));
    page.payload_mut().fill(b'.');
    log.append_page_image(page.id(), page.bytes())?;
    for number in 0..100u64 {
        let mut group = GroupBuilder::new();
        group.push_page_patch(page.id(), 32 + number as u32, b"x");
        group.push_logical(0x4000, &number.to_le_bytes());
        log.append(log.reserve(group.encoded_len())?, &mut group);
    }
    let last = log.commit()?;
    assert!(log.is_lsn_durable(last) && log.durable_lsn() == last);
    drop(log);

    let file = PageFile::open(dir.join("pages"), DEFAULT_PAGE_SIZE)?;
    let mut found = Vec::new();
    let mut recovery = Wal::open(dir.join("log"), &options)?;
    let report = recovery.recover(&file, Lsn::ZERO, |end, record| {
        assert!(record.kind == RecordKind::Logical && end <= last);
        found.push(u64::from_le_bytes(record.payload.try_into().expect("eight bytes")));
        Ok(())
    })?;
    assert!(found.iter().copied().eq(0..100));
    assert_eq!((report.groups, report.records, report.applied, report.end), (101, 201, 101, last));
    file.read_into(page.id(), &mut page)?;
    assert!(page.payload()[..100] == [b'x'; 100] && page.payload()[100] == b'.' && page.lsn() == last);

    let log = recovery.start_alone()?;
    assert_eq!(log.reset()?, last);
    assert!(log.append_logical(0x4000, b"more")? > last);
    log.flush()?;
    drop(log);
    let report = Wal::open(dir.join("log"), &options)?.replay(|_| Ok(()))?;
    assert_eq!(report.groups, 1);

    // Every way to make it durable by its name, chosen rather than probed; commits that do not wait; answers that come later.
    let names = ["fdatasync", "pwritev2_dsync", "o_dsync", "io_uring"];
    for (durable_by, name) in DurableBy::ALL.into_iter().zip(names) {
        assert_eq!(durable_by.name(), name);
        let options =
            WalOptions { durable_by: Some(durable_by), commit: CommitMode::Relaxed, ..options.clone() };
        let log = match Wal::open(dir.join(name), &options)?.start_alone() {
            Err(WalError::InvalidOptions { reason }) => {
                println!("{name} was not tried: {reason}");
                continue;
            }
            other => other?,
        };
        assert_eq!(log.stats().durable_by, durable_by);
        let patched = log.append_page_patch(PageId::new(1), 40, b"patch")?;
        assert!(log.commit()? == patched && !log.is_lsn_durable(patched), "relaxed: nobody has waited");
        let (told, answer) = std::sync::mpsc::channel();
        log.on_durable(patched, move |result| told.send(result.is_ok()).expect("heard"));
        log.flush_at_least(patched)?;
        log.wait_durable(patched)?;
        assert!(answer.recv()? && log.durable_lsn() >= patched);
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
