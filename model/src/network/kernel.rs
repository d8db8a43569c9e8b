//! Kernel classes, and the few scalar functions that must give the same bits in all of them.
//!
//! Every kernel is one generic body compiled three times, and none lets the compiler reorder a sum:
//! within a class a row's bits are its own. AVX-512 and AVX2 round a product and its sum once where
//! portable code rounds twice (see [`super::lanes`]), so that classes agree within 1e-5.

use std::fmt;

/// Which instructions compute a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelClass {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors.
    Avx2,
    /// Whatever the target has at least.
    Portable,
}

impl KernelClass {
    /// The best class of this machine.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    return Self::Avx512;
                }
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// The classes that this machine can run.
    pub fn available() -> Vec<Self> {
        match Self::detect() {
            Self::Avx512 => vec![Self::Portable, Self::Avx2, Self::Avx512],
            Self::Avx2 => vec![Self::Portable, Self::Avx2],
            Self::Portable => vec![Self::Portable],
        }
    }

    /// This class, or the best of this machine where it lacks it.
    #[must_use]
    pub fn or_best(self) -> Self {
        if Self::available().contains(&self) { self } else { Self::detect() }
    }

    /// Name in predictions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for KernelClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Compiles a generic body for each class and calls the one asked for:
/// `multiversion! { fn name<D>(arguments) = body }` makes `name::<D>(class, arguments)`.
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident<$(const $n:ident: usize),*>($($arg:ident: $type:ty),* $(,)?) = $body:path) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$(const $n: usize),*>(class: crate::network::KernelClass, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx2")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$(const $n: usize),*>($($arg: $type),*) {
                $body($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$(const $n: usize),*>($($arg: $type),*) {
                $body($($arg),*);
            }
            match class {
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "KernelClass::Avx512 exists only where detection found it")]
                crate::network::KernelClass::Avx512 => unsafe { avx512::<$($n),*>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "KernelClass::Avx2 exists only where detection found it")]
                crate::network::KernelClass::Avx2 => unsafe { avx2::<$($n),*>($($arg),*) },
                _ => $body($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;

/// e^x within 2 units in the last place for -87 to 88, 0-ish below, large above; never NaN for a
/// number. Branchless, so that it vectorises; the same bits in every kernel class.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let power = shifted - MAGIC;
    // ln 2 in two parts, so that the reduction is exact enough.
    let r = (x - power * (355.0 / 512.0)) - power * -2.121_944_4e-4;
    let mut y = 1.987_569e-4;
    y = y * r + 1.398_2e-3;
    y = y * r + 8.333_452e-3;
    y = y * r + 4.166_579_6e-2;
    y = y * r + 1.666_666_5e-1;
    y = y * r + 0.5;
    let y = y * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    y * f32::from_bits((exponent.wrapping_add(127) << 23) as u32)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, within 2e-7 of it.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

/// Sum of products in one fixed tree over eight lanes.
#[inline(always)]
pub(crate) fn dot<const D: usize>(a: &[f32; D], b: &[f32; D]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}

/// `sum += factor * x`.
#[inline(always)]
pub(crate) fn axpy<const D: usize>(sum: &mut [f32; D], factor: f32, x: &[f32; D]) {
    for lane in 0..D {
        sum[lane] += factor * x[lane];
    }
}

/// `sum += x M`, where `M` has one row per element of `x`.
#[inline(always)]
pub(crate) fn times<const D: usize>(sum: &mut [f32; D], x: &[f32; D], rows: &[[f32; D]]) {
    for (dimension, row) in rows.iter().enumerate().take(D) {
        axpy(sum, x[dimension], row);
    }
}

/// `sum += y Mᵀ`: the gradient of `x` from that of `y = x M`.
#[inline(always)]
pub(crate) fn back<const D: usize>(sum: &mut [f32; D], y: &[f32; D], rows: &[[f32; D]]) {
    for (sum, row) in sum.iter_mut().zip(rows) {
        *sum += dot(row, y);
    }
}

/// `M += x outer y`: the gradient of the matrix of `y = x M`.
#[inline(always)]
pub(crate) fn outer<const D: usize>(rows: &mut [[f32; D]], x: &[f32; D], y: &[f32; D]) {
    for (row, &x) in rows.iter_mut().zip(x) {
        axpy(row, x, y);
    }
}

/// `sum += x`.
#[inline(always)]
pub(crate) fn add<const D: usize>(sum: &mut [f32; D], x: &[f32; D]) {
    for lane in 0..D {
        sum[lane] += x[lane];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_true_one() {
        let mut worst = 0.0_f64;
        for step in -86_000..88_000 {
            let x = step as f32 / 1000.0;
            let truth = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - truth) / truth).abs());
        }
        assert!(worst < 2.5e-7, "relative error {worst}");
    }

    #[test]
    fn exp_of_extremes_is_finite() {
        for x in [f32::MIN, f32::MAX, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(exp(x).is_finite() && exp(x) >= 0.0);
        }
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
    }
}
