//! Prevents: a panic, a hang or another tree's entries where the catalog's bytes are wrong and their checksums right (E4, R3, R4).

mod support;

use pagestone_page_format::{ChecksumKind, PageChecksum, StoreUuid};
use pagestone_store::{Problem, Store, StoreError, StoreResult};
use pagestone_testkit::{Keep, SimDisk};
use support::{State, open};

const PAGE: usize = 4096;
const CATALOG_AT: usize = 8192 + 2 * PAGE;

/// Trees whose entries all carry their own name, closed.
fn filled() -> SimDisk {
    let disk = SimDisk::new(1);
    let store = open(&disk).expect("opens");
    for name in ["apples", "pears", "plums"] {
        let tree = store.tree(name).expect("tree");
        for number in 0..20u8 {
            tree.put(&[number], &[name.as_bytes(), &[number; 300]].concat()).expect("put");
        }
    }
    store.default_tree().put(b"default", b"value").expect("put");
    store.close().expect("closes");
    disk
}

/// Changes bytes of the catalog's root and puts the checksum right.
fn patched(disk: &SimDisk, at: usize, bytes: &[u8]) -> SimDisk {
    let disk = disk.power_cut(Keep::Everything);
    let data = disk.contents("/store/data").expect("read");
    let uuid = StoreUuid::new(data[16..32].try_into().expect("sixteen bytes"));
    let mut page = data[CATALOG_AT..CATALOG_AT + PAGE].to_vec();
    page[at..at + bytes.len()].copy_from_slice(bytes);
    PageChecksum::new(ChecksumKind::Crc32c, uuid).stamp(&mut page);
    disk.overwrite("/store/data", CATALOG_AT as u64, &page).expect("overwritten");
    disk
}

/// Where the entry of a name stands: its value begins behind its key.
fn value_of(disk: &SimDisk, name: &str) -> usize {
    let data = disk.contents("/store/data").expect("read");
    let page = &data[CATALOG_AT..CATALOG_AT + PAGE];
    let key = [&[1], name.as_bytes()].concat();
    page.windows(key.len()).position(|window| window == key).expect("the key") + key.len()
}

/// Everything that can be asked of it. An error is an answer; another tree's entry is not.
fn ask(store: &Store) -> Vec<StoreResult<()>> {
    let mut answers = vec![store.trees().map(drop)];
    for name in ["apples", "pears", "plums"] {
        answers.push(store.tree(name).and_then(|tree| {
            let all = tree.range::<&[u8]>(..).collect::<Result<State, _>>()?;
            assert!(all.values().all(|value| value.starts_with(name.as_bytes())), "another tree's entries");
            tree.put(b"new", &[name.as_bytes(), b"new"].concat())?;
            Ok(())
        }));
    }
    answers.push(store.tree("quinces").and_then(|tree| tree.put(b"key", b"quinces")).map(drop));
    answers.push(store.rename_tree("apples", "quince trees"));
    answers.push(store.drop_tree("pears"));
    answers.push(store.tick());
    answers.push(store.trees().map(drop));
    answers
}

#[test]
fn any_byte_of_the_catalog_is_an_answer_or_an_error() {
    let disk = filled();
    let (mut wrong, mut right) = (0, 0);
    for at in 32..PAGE {
        let old = disk.contents("/store/data").expect("read")[CATALOG_AT + at];
        // What is zero in the middle of a page is free space.
        if old == 0 && at > 200 && at % 128 != 0 {
            continue;
        }
        for new in [old ^ 1, old ^ 0x80, 0xff] {
            let disk = patched(&disk, at, &[new]);
            match open(&disk) {
                Err(_) => wrong += 1,
                Ok(store) => {
                    let sound = store.verify().expect("verified").is_sound();
                    let answers = ask(&store);
                    let error = answers.iter().any(|answer| answer.is_err());
                    assert!(
                        !error || !sound,
                        "byte {at}: verify finds what an operation stumbles over: {answers:?}"
                    );
                    *(if error { &mut wrong } else { &mut right }) += 1;
                    // A drop of a page that is free already is found out late; else the rest of the store goes on.
                    let value = store.default_tree().get(b"default").expect("get");
                    assert_eq!(value.as_deref(), Some(&b"value"[..]), "byte {at}");
                }
            }
        }
    }
    assert!(wrong > 100 && right > 100, "{wrong} wrong, {right} right");
}

#[test]
fn entries_that_no_version_writes_are_told() {
    let disk = filled();
    let pears = value_of(&disk, "pears");
    let root_of_apples = {
        let data = disk.contents("/store/data").expect("read");
        let at = CATALOG_AT + value_of(&disk, "apples");
        data[at + 6..at + 14].to_vec()
    };
    // Format, state, an id that was never given, the default tree's id, the default tree's root, no page.
    let broken: [(usize, &[u8]); 6] = [
        (0, &[2]),
        (1, &[2]),
        (2, &[200, 0, 0, 0]),
        (2, &[1, 0, 0, 0]),
        (6, &[1, 0, 0, 0, 0, 0, 0, 0]),
        (6, &[0xff; 8]),
    ];
    for (at, bytes) in broken {
        let store = open(&patched(&disk, pears + at, bytes)).expect("opens");
        for error in [
            store.tree("pears").map(drop).expect_err("broken"),
            store.trees().map(drop).expect_err("broken"),
            store.drop_tree("pears").expect_err("broken"),
            store.rename_tree("pears", "x").expect_err("broken"),
            store.rename_tree("plums", "pears").expect_err("broken"),
        ] {
            assert!(matches!(error, StoreError::BadCatalog { .. }), "byte {at}: {error}");
        }
        store.tree("apples").expect("whole").put(b"still", b"good").expect("put");
    }
    let store = open(&patched(&disk, pears + 2, &[2, 0, 0, 0])).expect("opens");
    let report = store.verify().expect("verified");
    assert!(report.findings.iter().any(|found| found.problem == Problem::Catalog), "two names of one id");
    // Another tree's root under this tree's id: each node says whose it is.
    let store = open(&patched(&disk, pears + 6, &root_of_apples)).expect("opens");
    let error = store.tree("pears").expect("opens").get(b"key").expect_err("another tree's node");
    assert!(matches!(error, StoreError::Tree(_)), "{error}");
    store.drop_tree("pears").expect_err("another tree's node");
    assert_eq!(store.tree("apples").expect("tree").len().expect("len"), 20, "nothing of it was freed");
    assert_eq!(store.trees().expect("trees").len(), 2, "the rest of the drop waits");
    store.tick().expect_err("it fails again, and says so");
    assert!(store.stats().expect("stats").failed_drops > 0);
}
