//! A value of many mebibytes into a store and out again, piece by piece, and how much memory the process took.
//!
//! ```text
//! cargo run --release -p pagestone-store --example stream_a_long_value -- DIRECTORY [MEBIBYTES]
//! ```

use std::io::{self, Read};
use std::time::Instant;

use pagestone_store::{Options, Store};

const MIB: u64 = 1 << 20;

/// So many bytes, each following from its place.
struct Numbers {
    at: u64,
    len: u64,
}

impl Read for Numbers {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = (self.len - self.at).min(out.len() as u64) as usize;
        for (place, byte) in (self.at..).zip(&mut out[..len]) {
            *byte = (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
        self.at += len as u64;
        Ok(len)
    }
}

/// Resident memory of this process and the most there ever was, in KiB, where the system tells.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    };
    (figure("VmRSS:"), figure("VmHWM:"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let dir = args.next().ok_or("expected DIRECTORY [MEBIBYTES]")?;
    if dir.to_string_lossy().starts_with('-') {
        return Err(format!("expected DIRECTORY [MEBIBYTES], found the option {}", dir.display()).into());
    }
    let mebibytes: u64 = match args.next() {
        Some(arg) => arg.to_str().ok_or("not a number")?.parse()?,
        None => 1024,
    };
    let pool_bytes = 64 * MIB as usize;
    let store = Store::open(&dir, Options { pool_bytes, ..Options::default() })?;
    let tree = store.default_tree();
    let len = mebibytes * MIB;
    for known in [true, false] {
        let (before, _) = resident();
        let began = Instant::now();
        tree.put_reader(b"long", known.then_some(len), Numbers { at: 0, len })?;
        let wrote = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let mut value = tree.get_reader(b"long")?.ok_or("it was put")?;
        assert_eq!(value.len(), len);
        let (mut expected, mut at) = (Numbers { at: 0, len }, 0);
        let (mut some, mut same) = (vec![0; MIB as usize], vec![0; MIB as usize]);
        while at < len {
            value.read_exact(&mut some)?;
            expected.read_exact(&mut same)?;
            assert!(some == same, "what came out is not what went in, from byte {at} on");
            at += MIB;
        }
        let read = began.elapsed().as_secs_f64();
        let (after, most) = resident();
        println!(
            "{mebibytes} MiB, length {}: in {wrote:.2} s, out {read:.2} s; resident {before} KiB before, {after} KiB after, \
             {most} KiB at most; pool {} KiB",
            if known { "known" } else { "unknown" },
            pool_bytes / 1024
        );
    }
    store.close()?;
    Ok(())
}
