//! The seeded random numbers of initial weights, dropout, shuffling and resampling: `SplitMix64`,
//! so that a seed means the same on every machine and in every version.

/// `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A stream of its own per (`seed`, `purpose`): adding a use of one does not shift the others.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self { state: xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), seed) }
    }

    /// A stream of its own per (`seed`, `purpose`, `number`), for what is drawn out of order.
    pub fn numbered(seed: u64, purpose: &str, number: u64) -> Self {
        let mut random = Self::new(seed ^ number.wrapping_mul(0x9FB2_1C65_1E98_DF25), purpose);
        // Numbers next to one another start far apart.
        random.state = random.next_u64();
        random
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0 to less than `bound`, which must not be 0 (Lemire's multiply and shift; its
    /// bias is below 2^-32 for any bound that fits memory).
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Uniform in 0 to less than 1.
    #[inline]
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in -`limit` to `limit`.
    #[inline]
    pub fn symmetric(&mut self, limit: f32) -> f32 {
        (self.unit() * 2.0 - 1.0) * limit
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
