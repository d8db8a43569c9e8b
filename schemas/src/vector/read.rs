//! Reading vectors one over the other: a vector has some eighty texts, and making them anew for each would cost
//! more than all else that is done with it.

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint};

use super::{Behaviour, FeatureVector};
use crate::codec::{Codec as _, DecodeError, Protobuf, versioned};

/// Tag of [`FeatureVector::behaviours`].
const BEHAVIOURS: u32 = 22;

impl FeatureVector {
    /// Reads a record over this vector, whose texts and lists keep their memory: as [`Protobuf::decode`] does
    /// otherwise.
    ///
    /// # Errors
    /// As that.
    pub fn read(&mut self, bytes: &Bytes) -> Result<(), DecodeError> {
        let mut rest = versioned::<Self>(bytes)?;
        let mut behaviours = std::mem::take(&mut self.behaviours);
        self.clear();
        if let Some(count) = self.read_fields(&mut rest, &mut behaviours) {
            behaviours.truncate(count);
            self.behaviours = behaviours;
        } else {
            // Not as we write them: prost says what is wrong, or reads what another has written.
            *self = Protobuf::decode(bytes)?;
        }
        Ok(())
    }

    /// Reads the fields, the behaviours over those given; how many there are.
    fn read_fields(&mut self, rest: &mut Bytes, behaviours: &mut Vec<Behaviour>) -> Option<usize> {
        let mut count = 0;
        while rest.has_remaining() {
            let (tag, wire_type) = decode_key(rest).ok()?;
            if tag == BEHAVIOURS {
                let length = length(wire_type, decode_varint(rest).ok()?)?;
                if count == behaviours.len() {
                    behaviours.push(Behaviour::default());
                }
                behaviours[count].read(rest.get(..length)?)?;
                rest.advance(length);
                count += 1;
            } else {
                self.merge_field(tag, wire_type, rest, DecodeContext::default()).ok()?;
            }
        }
        Some(count)
    }
}

impl Behaviour {
    fn read(&mut self, mut rest: &[u8]) -> Option<()> {
        self.clear();
        while !rest.is_empty() {
            let (tag, wire_type) = decode_key(&mut rest).ok()?;
            let number = decode_varint(&mut rest).ok()?;
            let text = match (tag, wire_type) {
                (4, WireType::Varint) => {
                    self.kind = number as i32;
                    continue;
                }
                (5, WireType::Varint) => {
                    self.age_ms = number as i64;
                    continue;
                }
                (1, _) => &mut self.item,
                (2, _) => &mut self.campaign,
                (3, _) => &mut self.category,
                _ => return None,
            };
            let (bytes, behind) = rest.split_at_checked(length(wire_type, number)?)?;
            text.clear();
            text.push_str(std::str::from_utf8(bytes).ok()?);
            rest = behind;
        }
        Some(())
    }
}

fn length(wire_type: WireType, number: u64) -> Option<usize> {
    usize::try_from(number).ok().filter(|_| wire_type == WireType::LengthDelimited)
}
