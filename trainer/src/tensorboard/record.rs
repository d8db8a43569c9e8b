//! `TFRecord` framing: length, masked CRC of the length, bytes, masked CRC of the bytes; all little
//! endian (TensorFlow, `core/lib/io/record_writer.h`).

/// Bytes before and after the payload.
const HEAD: usize = 12;
const TAIL: usize = 4;

/// The CRC that is written: rotated and moved, so that a CRC of data that holds CRCs stays good.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Appends one record.
pub(super) fn append(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(&masked(payload).to_le_bytes());
}

/// The first record and what follows it; `None` if it is cut off or damaged.
pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (length, crc) = head.split_at(8);
    if masked(length).to_le_bytes() != crc {
        return None;
    }
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    let (crc, rest) = rest.split_at_checked(TAIL)?;
    (masked(payload).to_le_bytes() == crc).then_some((payload, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_frames_it() {
        // RFC 3720 B.4: CRC32C of 32 zero bytes is 0x8A9136AA.
        let crc = 0x8A91_36AA_u32;
        assert_eq!(masked(&[0; 32]), crc.rotate_right(15).wrapping_add(0xA282_EAD8));
        let mut out = Vec::new();
        append(&mut out, b"abc");
        append(&mut out, b"");
        assert_eq!(out.len(), 2 * (HEAD + TAIL) + 3);
        let (first, rest) = split(&out).unwrap();
        assert_eq!((first, rest.len()), (&b"abc"[..], HEAD + TAIL));
        assert_eq!(split(rest).unwrap().0, b"");
    }

    #[test]
    fn damage_is_noticed() {
        let mut out = Vec::new();
        append(&mut out, b"abcdef");
        for at in 0..out.len() {
            let mut bad = out.clone();
            bad[at] ^= 1;
            assert_eq!(split(&bad), None, "byte {at}");
            assert_eq!(split(&out[..at]), None, "cut at {at}");
        }
    }
}
