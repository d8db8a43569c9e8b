//! Vectors: a view with its numbers, and their bytes.
//!
//! A vector is written straight from the event and the state: no text is copied on the way. The
//! bytes are those of [`schemas::Protobuf`] for [`FeatureVector`]; a test compares them.

use schemas::{Behaviour, Event, FeatureVector, Origin, Place, Record};

use crate::interner::Interner;
use crate::plan::{CLICK, VIEW};
use crate::recent::Recent;
use crate::subjects::Subjects;
use crate::wire::varint;

/// A vector that borrows its event and the state.
#[derive(Debug)]
pub struct VectorView<'a> {
    /// Place of the view.
    pub place: Place,
    /// The view.
    pub event: &'a Event,
    /// The event clock, ms; `i64::MIN` before it has started.
    pub clock_ms: i64,
    /// Fingerprint of the vector schema.
    pub fingerprint: u64,
    /// The numbers, in the schema's order.
    pub values: &'a [f32],
    /// The version of shared entities that it read, ms; `None` where it could read none.
    pub version_ms: Option<i64>,
    pub(crate) recent: Recent<'a>,
    pub(crate) subjects: &'a Subjects,
    pub(crate) texts: &'a Interner,
}

impl VectorView<'_> {
    /// The user's last behaviours before the view, newest first: item, campaign, category, kind,
    /// age in ms.
    pub fn behaviours(&self) -> impl ExactSizeIterator<Item = (&str, &str, &str, schemas::Kind, i64)> {
        let texts = self.texts;
        self.each().map(move |(ids, kind, age_ms)| {
            let [item, campaign, category] = ids.map(|id| texts.text(id));
            (item, campaign, category, kind, age_ms)
        })
    }

    /// The same, with the texts' numbers.
    fn each(&self) -> impl ExactSizeIterator<Item = ([u32; 3], schemas::Kind, i64)> {
        self.recent.iter().map(|event| {
            let kind = schemas::Kind::try_from(i32::from(event.kind) + 1).unwrap_or(schemas::Kind::Unknown);
            let age_ms = self.event.event_time_ms - event.time_ms;
            let subject = self.subjects.get(event.number);
            ([subject.item, subject.campaign, subject.category], kind, age_ms)
        })
    }

    fn entity_version(&self) -> u64 {
        self.version_ms.map_or(0, i64::unsigned_abs)
    }

    /// As a record of its own.
    pub fn to_vector(&self) -> FeatureVector {
        let mut vector = FeatureVector::default();
        self.write(&mut vector);
        vector.values = block(self.values).into();
        vector
    }

    /// Writes all but the numbers over another vector, whose texts and lists keep their memory.
    pub fn write(&self, into: &mut FeatureVector) {
        let event = self.event;
        // Every field by name: one that is added must not keep what was there.
        let FeatureVector {
            place,
            origin,
            event_id,
            event_time_ms,
            clock_ms,
            received_ms,
            user,
            item,
            campaign,
            category,
            brand,
            placement,
            device,
            channel,
            request_id,
            context,
            price,
            currency,
            fingerprint,
            values: _,
            embedding,
            behaviours,
            entity_version,
        } = into;
        *place = self.place;
        let mut topic = std::mem::take(&mut origin.topic);
        topic.clone_from(&event.origin.topic);
        *origin = Origin { topic, ..event.origin };
        (*event_time_ms, *clock_ms) = (event.event_time_ms, self.clock_ms);
        *received_ms = event.received_ms;
        for (to, from) in [
            (event_id, &event.event_id),
            (user, &event.user),
            (item, &event.item),
            (campaign, &event.campaign),
            (category, &event.category),
            (brand, &event.brand),
            (placement, &event.placement),
            (device, &event.device),
            (channel, &event.channel),
            (request_id, &event.request_id),
            (context, &event.context),
            (currency, &event.currency),
        ] {
            to.clone_from(from);
        }
        *price = event.value;
        (*fingerprint, *entity_version) = (self.fingerprint, self.entity_version());
        *embedding = block(&event.embedding).into();
        let recent = self.behaviours();
        behaviours.resize_with(recent.len(), Behaviour::default);
        for (to, from) in behaviours.iter_mut().zip(recent) {
            let (item, campaign, category, kind, age_ms) = from;
            for (to, from) in
                [(&mut to.item, item), (&mut to.campaign, campaign), (&mut to.category, category)]
            {
                to.clear();
                to.push_str(from);
            }
            (to.kind, to.age_ms) = (kind as i32, age_ms);
        }
    }

    /// Appends the record's bytes, as [`schemas::Protobuf`] writes them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let event = self.event;
        out.push(FeatureVector::VERSION);
        let place_len = int_len(i64::from(self.place.partition)) + int_len(self.place.offset);
        head(1, place_len, out);
        int(1, i64::from(self.place.partition), out);
        int(2, self.place.offset, out);

        let origin = &event.origin;
        let origin_len = text_len(origin.topic.as_bytes())
            + int_len(i64::from(origin.partition))
            + int_len(origin.offset)
            + int_len(i64::from(origin.line))
            + int_len(i64::from(origin.lines));
        head(2, origin_len, out);
        text(1, origin.topic.as_bytes(), out);
        int(2, i64::from(origin.partition), out);
        int(3, origin.offset, out);
        int(4, i64::from(origin.line), out);
        int(5, i64::from(origin.lines), out);

        text(3, event.event_id.as_bytes(), out);
        int(4, event.event_time_ms, out);
        int(5, self.clock_ms, out);
        int(6, event.received_ms, out);
        let texts = [
            &event.user,
            &event.item,
            &event.campaign,
            &event.category,
            &event.brand,
            &event.placement,
            &event.device,
            &event.channel,
            &event.request_id,
            &event.context,
        ];
        for (tag, value) in (7..).zip(texts) {
            text(tag, value.as_bytes(), out);
        }
        if event.value != 0.0 {
            fixed(17, event.value.to_bits(), out);
        }
        text(18, event.currency.as_bytes(), out);
        if self.fingerprint != 0 {
            fixed(19, self.fingerprint, out);
        }
        floats(20, self.values, out);
        floats(21, &event.embedding, out);
        for (ids, kind, age_ms) in self.each() {
            let [item, campaign, category] = ids.map(|id| self.texts.bytes_of(id));
            let len = text_len(item)
                + text_len(campaign)
                + text_len(category)
                + int_len(kind as i64)
                + int_len(age_ms);
            head(22, len, out);
            text(1, item, out);
            text(2, campaign, out);
            text(3, category, out);
            int(4, kind as i64, out);
            int(5, age_ms, out);
        }
        int(23, self.entity_version() as i64, out);
    }
}

fn block(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

// Protobuf's wire types: 0 varint, 1 eight bytes, 2 a length and that many bytes. A field with
// its default value is left out.

fn head(tag: u64, len: usize, out: &mut Vec<u8>) {
    varint(tag << 3 | 2, out);
    varint(len as u64, out);
}

fn text(tag: u64, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        head(tag, value.len(), out);
        out.extend_from_slice(value);
    }
}

fn int(tag: u64, value: i64, out: &mut Vec<u8>) {
    if value != 0 {
        varint(tag << 3, out);
        varint(value as u64, out);
    }
}

fn fixed(tag: u64, value: u64, out: &mut Vec<u8>) {
    varint(tag << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn floats(tag: u64, values: &[f32], out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    head(tag, values.len() * 4, out);
    out.reserve(values.len() * 4);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Bytes of a field with a tag below 16.
fn text_len(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { 1 + varint_len(value.len() as u64) + value.len() }
}

fn int_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

/// Index of a kind in the state; `None` for kinds that this build does not know.
pub(crate) fn kind_index(kind: schemas::Kind) -> Option<usize> {
    (kind as usize).checked_sub(1)
}

const _: () = assert!(VIEW + 1 == schemas::Kind::View as usize && CLICK + 1 == schemas::Kind::Click as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_long_as_they_say() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1] {
                let mut out = Vec::new();
                varint(value, &mut out);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }
}
