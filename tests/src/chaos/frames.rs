//! Which requests pass by: Kafka's frames in a stream of bytes that comes in any pieces.
//!
//! Pure: bytes in, API keys out.

/// The API key of the request that ends a transaction.
pub(super) const END_TXN: i16 = 26;

/// Bytes of a frame's length and of its API key.
const HEAD: usize = 6;

/// Finds the beginnings of frames in what a client sends.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    /// Bytes of the frame at hand that are still to come.
    left: usize,
}

impl Frames {
    /// Takes the next bytes; gives the API keys of the requests that begin in them.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Vec<i16> {
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let wanted = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if let [a, b, c, d, e, f] = self.head[..] {
                keys.push(i16::from_be_bytes([e, f]));
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(2);
                self.head.clear();
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(key: i16, body: usize) -> Vec<u8> {
        let mut bytes = (body as u32 + 2).to_be_bytes().to_vec();
        bytes.extend_from_slice(&key.to_be_bytes());
        bytes.resize(bytes.len() + body, 26);
        bytes
    }

    #[test]
    fn requests_are_found_however_the_bytes_are_cut() {
        let stream = [frame(0, 5), frame(END_TXN, 0), frame(3, 100), frame(END_TXN, 31)].concat();
        for piece in 1..stream.len() {
            let mut frames = Frames::default();
            let keys: Vec<i16> = stream.chunks(piece).flat_map(|bytes| frames.take(bytes)).collect();
            assert_eq!(keys, [0, END_TXN, 3, END_TXN], "in pieces of {piece}");
        }
    }
}
