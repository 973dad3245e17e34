//! What can be asked of the command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use kvstore::{Durability, KvStoreOptions};

use super::encoding::Encoding;
use super::failure::Failure;
use super::format::Format;
use super::size::parse_size;

/// One log segment, as a share of what the log may take.
const SEGMENTS_PER_LOG: u64 = 16;
/// Segments that the files of the log may take beyond its budget: spare ones.
const SPARE_SEGMENTS: u64 = 2;
/// Segments are whole blocks of this many bytes.
const SEGMENT_UNIT: u64 = 64 << 10;

/// A crash-safe key-value store in a directory.
#[derive(Debug, Parser)]
#[command(
    name = "kvstore",
    version,
    after_help = "Exit status: 0 done, 1 the key is missing or the store damaged, 2 an error."
)]
pub(crate) struct Args {
    /// Directory of the store
    #[arg(long, global = true, value_name = "DIR", default_value = "./kvstore-data")]
    pub(crate) data_dir: PathBuf,
    /// Make every single write durable before the next; without it, writes are durable when the command ends
    #[arg(long, global = true)]
    pub(crate) sync: bool,
    /// Memory for pages, in bytes or with KiB, MiB, GiB
    #[arg(long, global = true, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    pub(crate) pool: u64,
    /// What the files of the log may take, in bytes or with KiB, MiB, GiB
    #[arg(long, global = true, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    pub(crate) log: u64,
    /// Print JSON, one object a line, and import it
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Keys and values are hexadecimal, in arguments, TSV and output; a JSON line says by its names what it holds
    #[arg(long, global = true)]
    pub(crate) hex: bool,
    /// Keys and values are base64, in arguments, TSV and output; a JSON line says by its names what it holds
    #[arg(long, global = true)]
    pub(crate) base64: bool,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Insert a key or replace its value
    Put {
        /// The key
        key: OsString,
        /// The value
        #[arg(required_unless_present = "value_file", conflicts_with = "value_file")]
        value: Option<OsString>,
        /// The value is what this file holds, or stdin for -, as it is: up to 4 GiB, never in memory whole
        #[arg(long, value_name = "FILE")]
        value_file: Option<PathBuf>,
    },
    /// Print the value of a key
    Get {
        /// The key
        key: OsString,
        /// Write the value into this file, as it is, without a line end
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Remove a key
    Del {
        /// The key
        key: OsString,
    },
    /// Print entries in key order
    Scan {
        /// Only keys that begin with this
        #[arg(long, value_name = "P")]
        prefix: Option<OsString>,
        /// How to print them
        #[command(flatten)]
        listing: Listing,
    },
    /// Print entries whose keys are at least FROM and below TO
    Range {
        /// The first key
        from: OsString,
        /// The key before which to stop
        to: OsString,
        /// How to print them
        #[command(flatten)]
        listing: Listing,
    },
    /// Print how many entries there are
    Count,
    /// Print every entry in key order, as an import takes it; JSON lines, if no other form is asked for
    Export {
        /// Into this file rather than to stdout; it is whole and durable if the exit status is 0
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// What the lines look like
        #[arg(long, value_enum, value_name = "FORM")]
        format: Option<LineForm>,
        /// As --format tsv
        #[arg(long, conflicts_with = "format")]
        tsv: bool,
    },
    /// Apply every line of a file, each for itself. TSV: key, tab, value, with \t, \n and \\ escaped
    Import {
        /// The file, or - for stdin
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Print each key once it is durable
        #[arg(long)]
        ack: bool,
        /// What the lines look like: jsonl with --json, else tsv
        #[arg(long, value_enum, value_name = "FORM")]
        format: Option<LineForm>,
    },
    /// Apply every JSON line of a file, {"op":"put","key":…,"value":…} or {"op":"del","key":…}: all of them or none
    Batch {
        /// The file, or - for stdin
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Write out what is dirty, so that the next opening replays nothing
    Checkpoint,
    /// Wait until everything is durable
    Sync,
    /// Look at every page of the store; what is wrong is told on stderr
    Verify,
    /// Make the data file as short as what it holds allows; print what that came to
    Compact,
    /// Print figures
    Stats {
        /// In Prometheus' text format
        #[arg(long)]
        prometheus: bool,
    },
}

/// How entries are listed.
#[derive(Debug, clap::Args)]
pub(crate) struct Listing {
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// What the lines of an export, an import or a batch look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineForm {
    /// Key, tab, value
    Tsv,
    /// {"key": …, "value": …}; key_base64, value_base64, key_hex, value_hex for what is no text
    Jsonl,
}

impl Command {
    /// Whether the command makes a store where there is none. One that only reads or removes does not.
    fn creates(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Import { .. } | Self::Batch { .. })
    }
}

impl Args {
    /// How the store is opened.
    pub(crate) fn options(&self) -> Result<KvStoreOptions, Failure> {
        let pool_bytes = usize::try_from(self.pool)
            .map_err(|_| Failure::Argument { name: "--pool", reason: "more than can be addressed".into() })?;
        let segment = (self.log / SEGMENTS_PER_LOG / SEGMENT_UNIT * SEGMENT_UNIT).max(SEGMENT_UNIT);
        Ok(KvStoreOptions {
            pool_bytes,
            durability: if self.sync { Durability::Strict } else { Durability::RELAXED },
            log_bytes: self.log.saturating_sub(SPARE_SEGMENTS * segment),
            segment_bytes: segment,
            create: self.command.creates(),
        })
    }

    /// How keys and values are written.
    pub(crate) fn format(&self) -> Result<Format, Failure> {
        let encoding = match (self.hex, self.base64) {
            (false, false) => Encoding::Text,
            (true, false) => Encoding::Hex,
            (false, true) => Encoding::Base64,
            // Each may stand before the command and the other behind it, where clap sees no conflict.
            (true, true) => {
                return Err(Failure::Argument {
                    name: "--hex",
                    reason: "cannot be used with --base64".into(),
                });
            }
        };
        Ok(Format { encoding, json: self.json })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let before =
            Args::try_parse_from(["kvstore", "--data-dir", "d", "--pool", "1MiB", "--json", "get", "k"]);
        let behind =
            Args::try_parse_from(["kvstore", "get", "k", "--json", "--pool", "1MiB", "--data-dir", "d"]);
        for args in [before.expect("parsed"), behind.expect("parsed")] {
            assert_eq!((args.data_dir, args.pool, args.json), (PathBuf::from("d"), 1 << 20, true));
        }
    }

    #[test]
    fn the_log_is_cut_into_segments_that_the_store_takes() {
        let options = |log: &str| {
            let args = Args::try_parse_from(["kvstore", "--log", log, "count"]).expect("parsed");
            args.options().expect("options")
        };
        assert_eq!(
            options("1GiB"),
            KvStoreOptions {
                durability: Durability::RELAXED,
                log_bytes: (1 << 30) - (128 << 20),
                create: false,
                ..KvStoreOptions::default()
            }
        );
        assert_eq!(options("1MiB").segment_bytes, 64 << 10);
        assert_eq!(options("3MiB").segment_bytes, 192 << 10);
        assert_eq!(options("1").segment_bytes, 64 << 10);
    }
}
