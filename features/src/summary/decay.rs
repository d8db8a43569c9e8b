//! Powers of one half, the same on every processor.

/// 2^-x for x of 0 or more, to 1e-15. The platform's own differs in the last bit from one C library to the
/// next.
pub(crate) fn half_to(x: f64) -> f64 {
    // (ln 2)^n / n!, alternating: the series of 2^-f.
    const TERMS: [f64; 19] = {
        let mut terms = [1.0; 19];
        let mut n = 1;
        while n < terms.len() {
            terms[n] = -terms[n - 1] * std::f64::consts::LN_2 / n as f64;
            n += 1;
        }
        terms
    };
    if x >= 1_000.0 {
        return 0.0;
    }
    let whole = x.max(0.0) as u64;
    let part = x.max(0.0) - whole as f64;
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * part + term);
    series * f64::from_bits((1_023 - whole) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_near_the_platforms() {
        for step in 0..30_000 {
            let x = f64::from(step) / 37.0;
            let want = (-x).exp2();
            assert!((half_to(x) - want).abs() <= 4e-15 * want, "{x}");
        }
        assert_eq!([half_to(0.0), half_to(1.0), half_to(3.0), half_to(1e9)], [1.0, 0.5, 0.125, 0.0]);
    }
}
