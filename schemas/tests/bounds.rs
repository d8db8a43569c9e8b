//! Decoding allocates at most a fixed multiple of its input, whatever the bytes say: a length
//! field that claims a gigabyte, or a list of two million nothings.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![expect(unsafe_code, reason = "an allocator that counts is the only witness")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use schemas::{
    Aggregate, Codec, Duplicate, Entry, FeatureVector, Json, Label, LateEvent, ModelAnnouncement, Prediction,
    Protobuf, RawEvent,
};

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn grown(by: usize) {
        let now = NOW.with(|now| {
            now.set(now.get().wrapping_add(by));
            now.get()
        });
        MOST.with(|most| most.set(most.get().max(now)));
    }

    fn shrunk(by: usize) {
        NOW.with(|now| now.set(now.get().saturating_sub(by)));
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grown(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::shrunk(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Times the input, and a little for errors.
const TIMES: usize = 256;
const LITTLE: usize = 16 * 1024;

fn bounded<C: Codec<T>, T: schemas::Record>(bytes: &Bytes) {
    NOW.with(|now| now.set(0));
    MOST.with(|most| most.set(0));
    let read = C::decode(bytes).is_ok();
    let most = MOST.with(Cell::get);
    assert!(
        most <= TIMES * bytes.len() + LITTLE,
        "{}: {most} bytes allocated for {} (read: {read})",
        T::NAME,
        bytes.len()
    );
}

fn all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    bounded::<Protobuf, Entry>(&bytes);
    bounded::<Protobuf, LateEvent>(&bytes);
    bounded::<Protobuf, FeatureVector>(&bytes);
    bounded::<Protobuf, Label>(&bytes);
    bounded::<Protobuf, Duplicate>(&bytes);
    bounded::<Protobuf, Aggregate>(&bytes);
    bounded::<Json, Prediction>(&bytes);
    bounded::<Json, ModelAnnouncement>(&bytes);
    bounded::<Json, RawEvent>(&bytes);
}

fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A message of version 1 whose field `tag` holds `body`.
fn wrapped(tag: u32, body: &[u8], versioned: bool) -> Vec<u8> {
    let mut out = if versioned { vec![1] } else { Vec::new() };
    varint((tag << 3 | 2) as usize, &mut out);
    varint(body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

#[test]
fn a_claimed_length_is_not_believed() {
    for tag in 1..24_u32 {
        let mut bytes = vec![1];
        varint((tag << 3 | 2) as usize, &mut bytes);
        varint(1 << 30, &mut bytes);
        all(&bytes);
        // The same inside an envelope.
        all(&wrapped(1, &bytes[1..], true));
    }
}

#[test]
fn many_nothings_cost_what_they_weigh() {
    for tag in 1..24_u32 {
        let mut nothings = Vec::new();
        for _ in 0..20_000 {
            nothings.extend(wrapped(tag, &[], false));
        }
        all(&[&[1][..], &nothings].concat());
        for envelope in 1..4 {
            all(&wrapped(envelope, &nothings, true));
        }
    }
}

#[test]
fn deep_and_wide_json_costs_what_it_weighs() {
    all("[".repeat(50_000).as_bytes());
    all("{\"a\":".repeat(50_000).as_bytes());
    for name in ["attention", "behaviours", "lines", "other"] {
        let list =
            |element: &str| format!("{{\"{name}\":[{}{element}]}}", format!("{element},").repeat(20_000));
        all(list("0").as_bytes());
        all(list("{}").as_bytes());
        all(list("{\"field\":\"\",\"weight\":0}").as_bytes());
        all(list("{\"item_id\":\"\",\"price\":0}").as_bytes());
    }
    let many = (0..20_000).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
    all(format!("{{{many}}}").as_bytes());
}

#[test]
fn every_fixture_costs_what_it_weighs_wherever_it_is_cut() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for record in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(record.unwrap().path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            (0..=bytes.len().min(400)).for_each(|cut| all(&bytes[..cut]));
        }
    }
}
