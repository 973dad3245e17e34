//! serde for the value types, with feature `serde`.
//!
//! Invariant: what is read back is a value that the type allows: a page size that is none is an error of the format.
//!
//! Ids, LSNs and sizes are numbers; a UUID is its text, a checksum kind its name.

use serde_core::de::{Error, Unexpected};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ChecksumKind, FrameIndex, Lsn, PageId, PageSize, StoreUuid};

macro_rules! as_number {
    ($type:ty, $number:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.get().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$number>::deserialize(deserializer).map(Self::new)
            }
        }
    };
}

as_number!(PageId, u64);
as_number!(Lsn, u64);
as_number!(FrameIndex, u32);

impl Serialize for PageSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.get() as u64).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = u64::deserialize(deserializer)?;
        usize::try_from(bytes).ok().and_then(|bytes| PageSize::new(bytes).ok()).ok_or_else(|| {
            D::Error::invalid_value(Unexpected::Unsigned(bytes), &"a power of two from 4096 to 1048576")
        })
    }
}

impl Serialize for StoreUuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            D::Error::invalid_value(Unexpected::Str(&text), &"32 hexadecimal digits in five groups")
        })
    }
}

const CRC32C: &str = "crc32c";
const CRC64_NVME: &str = "crc64-nvme";

impl Serialize for ChecksumKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Crc32c => CRC32C,
            Self::Crc64Nvme => CRC64_NVME,
        })
    }
}

impl<'de> Deserialize<'de> for ChecksumKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            CRC32C => Ok(Self::Crc32c),
            CRC64_NVME => Ok(Self::Crc64Nvme),
            other => Err(D::Error::unknown_variant(other, &[CRC32C, CRC64_NVME])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn round<T: Serialize + for<'de> Deserialize<'de> + PartialEq + Debug>(value: T, text: &str) {
        assert_eq!(serde_json::to_string(&value).expect("a value type"), text);
        assert_eq!(serde_json::from_str::<T>(text).expect("its own text"), value);
    }

    #[test]
    fn value_types_come_back_as_they_were() {
        round(PageId::new(u64::MAX), "18446744073709551615");
        round(Lsn::new(7), "7");
        round(FrameIndex::new(3), "3");
        round(PageSize::new(8192).expect("a size"), "8192");
        let uuid = StoreUuid::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        round(uuid, "\"00010203-0405-0607-0809-0a0b0c0d0eff\"");
        round(ChecksumKind::Crc32c, "\"crc32c\"");
        round(ChecksumKind::Crc64Nvme, "\"crc64-nvme\"");
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        for text in ["4097", "0", "2048", "2097152", "-1", "\"4096\""] {
            serde_json::from_str::<PageSize>(text).expect_err("no page size");
        }
        for text in
            ["\"\"", "\"00010203-0405-0607-0809-0a0b0c0d0e\"", "\"00010203040506070809-0a0b0c0d0eff--\"", "1"]
        {
            serde_json::from_str::<StoreUuid>(text).expect_err("no UUID");
        }
        serde_json::from_str::<ChecksumKind>("\"crc16\"").expect_err("no such checksum");
    }
}
