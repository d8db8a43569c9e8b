//! Records in objects of the store, one after the other, each with its length in front.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, BufMut as _, Bytes};
use runtime::store::Store;
use schemas::{Codec, Protobuf, Record};

/// Bytes that make an object.
pub(super) const FULL: usize = 8 << 20;
/// Bytes of a record's length.
const LENGTH: usize = 4;

/// Appends a record.
pub(super) fn put<T: Record>(record: &T, out: &mut Vec<u8>)
where
    Protobuf: Codec<T>,
{
    let at = out.len();
    out.put_u32_le(0);
    Protobuf::encode(record, out);
    let length = (out.len() - at - LENGTH) as u32;
    out[at..at + LENGTH].copy_from_slice(&length.to_le_bytes());
}

/// Reads the records of some objects, one object at a time.
pub(super) struct Records {
    store: Store,
    paths: VecDeque<String>,
    path: String,
    bytes: Bytes,
}

impl Records {
    /// Of these objects, in this order.
    pub(super) fn new(store: Store, paths: Vec<String>) -> Self {
        Self { store, paths: paths.into(), path: String::new(), bytes: Bytes::new() }
    }

    /// The next record.
    pub(super) fn next<T: Record>(&mut self) -> Result<Option<T>>
    where
        Protobuf: Codec<T>,
    {
        while self.bytes.is_empty() {
            let Some(path) = self.paths.pop_front() else { return Ok(None) };
            self.bytes = self.store.get_blocking(&path)?.with_context(|| format!("{path} is gone"))?;
            self.path = path;
        }
        let cut = || {
            format!("{} is damaged; delete the folder that it is in, and run the command again", self.path)
        };
        ensure!(self.bytes.len() >= LENGTH, cut());
        let length = self.bytes.get_u32_le() as usize;
        ensure!(self.bytes.len() >= length, cut());
        Ok(Some(Protobuf::decode(&self.bytes.split_to(length)).with_context(cut)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use schemas::Duplicate;

    use super::*;

    fn duplicate(length: usize) -> Duplicate {
        Duplicate { user: "u".repeat(length), ..Duplicate::default() }
    }

    #[test]
    fn records_come_back_in_order_and_damage_is_named() {
        let store = Store::open("memory://").unwrap();
        let mut bytes = Vec::new();
        put(&duplicate(3), &mut bytes);
        put(&duplicate(0), &mut bytes);
        store.put_blocking("a/1", bytes.clone().into()).unwrap();
        store.put_blocking("a/2", Bytes::new()).unwrap();
        bytes.pop();
        store.put_blocking("a/3", bytes.into()).unwrap();
        let mut records = Records::new(store, ["a/1", "a/2", "a/3"].map(String::from).to_vec());
        let mut next = || records.next::<Duplicate>();
        for wanted in [3, 0, 3] {
            assert_eq!(next().unwrap().unwrap(), duplicate(wanted));
        }
        assert!(next().unwrap_err().to_string().contains("a/3"));
    }
}
