//! Sixteen floats side by side, as each kernel class computes with them.
//!
//! AVX-512 and AVX2 multiply and add in one rounding, portable code in two: the classes agree
//! within 1e-5, and within a class an expression gives the same bits wherever it stands.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as x86;

/// Sixteen floats in memory, aligned to a vector.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lane(pub(crate) [f32; 16]);

impl Lane {
    pub(crate) const ZERO: Self = Self([0.0; 16]);
}

/// Sixteen floats in registers. The implementations for AVX are for use in functions compiled with
/// these features only (see [`by_class`]).
pub(crate) trait Lanes: Copy {
    fn splat(x: f32) -> Self;
    fn load(from: &[f32; 16]) -> Self;
    fn store(self, to: &mut [f32; 16]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    /// `self * factor + sum`.
    fn fma(self, factor: Self, sum: Self) -> Self;
    /// `self * 2^n`, where the low bits of `shifted` hold n.
    fn times_power(self, shifted: Self) -> Self;
    /// Rows to columns.
    fn transpose(rows: &mut [Self; 16]);
}

/// 2^x for x of at most 0, within 3e-7 of it (relative); 0-ish below -126.
///
/// 2^r for r in -0.5 to 0.5 is a polynomial fitted for the least relative error (1.1e-7).
#[inline(always)]
pub(crate) fn exp2<V: Lanes>(x: V) -> V {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
    let x = x.max(V::splat(-126.0));
    let shifted = x.add(V::splat(MAGIC));
    let r = x.sub(shifted.sub(V::splat(MAGIC)));
    let mut y = V::splat(1.330_060_7e-3);
    y = y.fma(r, V::splat(9.669_691e-3));
    y = y.fma(r, V::splat(5.550_558_5e-2));
    y = y.fma(r, V::splat(2.402_228_3e-1));
    y = y.fma(r, V::splat(std::f32::consts::LN_2));
    y = y.fma(r, V::splat(1.0));
    y.times_power(shifted)
}

/// Plain arrays.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 16]);

impl Portable {
    #[inline(always)]
    fn map(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (out, other) in out.iter_mut().zip(other.0) {
            *out = f(*out, other);
        }
        Self(out)
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 16])
    }
    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; 16]) {
        *to = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.map(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.map(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.map(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.map(other, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.map(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    fn fma(self, factor: Self, sum: Self) -> Self {
        self.mul(factor).add(sum)
    }
    #[inline(always)]
    fn times_power(self, shifted: Self) -> Self {
        self.map(shifted, |y, shifted| f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23)))
    }
    #[inline(always)]
    fn transpose(rows: &mut [Self; 16]) {
        let from = *rows;
        for (i, row) in rows.iter_mut().enumerate() {
            for (j, from) in from.iter().enumerate() {
                row.0[j] = from.0[i];
            }
        }
    }
}

/// One 512-bit register.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512(x86::__m512);

/// Two 256-bit registers.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2([x86::__m256; 2]);

// SAFETY (of both implementations): the instructions exist, because the types are named only by
// functions that `by_class` compiles with these features and calls where detection found them.
// Loads and stores stay within the arrays that they are given, and need no alignment.
// Benchmark: `salience bench train` and `bench infer`; the same bodies on plain arrays are the class
// `portable`, and `cargo run --release -p model --example speed` times each class beside it.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "intrinsics; see the comment above")]
mod implementations {
    use super::{Avx2, Avx512, Lanes, x86};

    impl Lanes for Avx512 {
        #[inline(always)]
        fn splat(x: f32) -> Self {
            Self(unsafe { x86::_mm512_set1_ps(x) })
        }
        #[inline(always)]
        fn load(from: &[f32; 16]) -> Self {
            Self(unsafe { x86::_mm512_loadu_ps(from.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; 16]) {
            unsafe { x86::_mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(unsafe { x86::_mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self(unsafe { x86::_mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(unsafe { x86::_mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            Self(unsafe { x86::_mm512_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self(unsafe { x86::_mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            Self(unsafe { x86::_mm512_sqrt_ps(self.0) })
        }
        #[inline(always)]
        fn fma(self, factor: Self, sum: Self) -> Self {
            Self(unsafe { x86::_mm512_fmadd_ps(self.0, factor.0, sum.0) })
        }
        #[inline(always)]
        fn times_power(self, shifted: Self) -> Self {
            Self(unsafe {
                let power = x86::_mm512_slli_epi32::<23>(x86::_mm512_castps_si512(shifted.0));
                x86::_mm512_castsi512_ps(x86::_mm512_add_epi32(x86::_mm512_castps_si512(self.0), power))
            })
        }
        #[inline(always)]
        fn transpose(rows: &mut [Self; 16]) {
            unsafe {
                // 2 x 2, then 4 x 4 within quarters, then quarters among one another, twice.
                let mut a = [x86::_mm512_setzero_ps(); 16];
                for i in 0..8 {
                    a[2 * i] = x86::_mm512_unpacklo_ps(rows[2 * i].0, rows[2 * i + 1].0);
                    a[2 * i + 1] = x86::_mm512_unpackhi_ps(rows[2 * i].0, rows[2 * i + 1].0);
                }
                let mut b = a;
                for i in 0..4 {
                    b[4 * i] = x86::_mm512_shuffle_ps::<0x44>(a[4 * i], a[4 * i + 2]);
                    b[4 * i + 1] = x86::_mm512_shuffle_ps::<0xEE>(a[4 * i], a[4 * i + 2]);
                    b[4 * i + 2] = x86::_mm512_shuffle_ps::<0x44>(a[4 * i + 1], a[4 * i + 3]);
                    b[4 * i + 3] = x86::_mm512_shuffle_ps::<0xEE>(a[4 * i + 1], a[4 * i + 3]);
                }
                for i in 0..4 {
                    a[i] = x86::_mm512_shuffle_f32x4::<0x88>(b[i], b[4 + i]);
                    a[4 + i] = x86::_mm512_shuffle_f32x4::<0xDD>(b[i], b[4 + i]);
                    a[8 + i] = x86::_mm512_shuffle_f32x4::<0x88>(b[8 + i], b[12 + i]);
                    a[12 + i] = x86::_mm512_shuffle_f32x4::<0xDD>(b[8 + i], b[12 + i]);
                }
                for i in 0..4 {
                    rows[i].0 = x86::_mm512_shuffle_f32x4::<0x88>(a[i], a[8 + i]);
                    rows[4 + i].0 = x86::_mm512_shuffle_f32x4::<0x88>(a[4 + i], a[12 + i]);
                    rows[8 + i].0 = x86::_mm512_shuffle_f32x4::<0xDD>(a[i], a[8 + i]);
                    rows[12 + i].0 = x86::_mm512_shuffle_f32x4::<0xDD>(a[4 + i], a[12 + i]);
                }
            }
        }
    }

    impl Avx2 {
        #[inline(always)]
        fn both(self, other: Self, f: impl Fn(x86::__m256, x86::__m256) -> x86::__m256) -> Self {
            Self([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
        }
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn splat(x: f32) -> Self {
            Self([unsafe { x86::_mm256_set1_ps(x) }; 2])
        }
        #[inline(always)]
        fn load(from: &[f32; 16]) -> Self {
            let from = from.as_ptr();
            Self(unsafe { [x86::_mm256_loadu_ps(from), x86::_mm256_loadu_ps(from.add(8))] })
        }
        #[inline(always)]
        fn store(self, to: &mut [f32; 16]) {
            let to = to.as_mut_ptr();
            unsafe {
                x86::_mm256_storeu_ps(to, self.0[0]);
                x86::_mm256_storeu_ps(to.add(8), self.0[1]);
            }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            self.both(other, |a, b| unsafe { x86::_mm256_add_ps(a, b) })
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            self.both(other, |a, b| unsafe { x86::_mm256_sub_ps(a, b) })
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            self.both(other, |a, b| unsafe { x86::_mm256_mul_ps(a, b) })
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            self.both(other, |a, b| unsafe { x86::_mm256_div_ps(a, b) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            self.both(other, |a, b| unsafe { x86::_mm256_max_ps(a, b) })
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            self.both(self, |a, _| unsafe { x86::_mm256_sqrt_ps(a) })
        }
        #[inline(always)]
        fn fma(self, factor: Self, sum: Self) -> Self {
            Self(unsafe {
                [
                    x86::_mm256_fmadd_ps(self.0[0], factor.0[0], sum.0[0]),
                    x86::_mm256_fmadd_ps(self.0[1], factor.0[1], sum.0[1]),
                ]
            })
        }
        #[inline(always)]
        fn times_power(self, shifted: Self) -> Self {
            self.both(shifted, |y, shifted| unsafe {
                let power = x86::_mm256_slli_epi32::<23>(x86::_mm256_castps_si256(shifted));
                x86::_mm256_castsi256_ps(x86::_mm256_add_epi32(x86::_mm256_castps_si256(y), power))
            })
        }
        #[inline(always)]
        fn transpose(rows: &mut [Self; 16]) {
            let mut from = [[0.0; 16]; 16];
            for (row, from) in rows.iter().zip(&mut from) {
                row.store(from);
            }
            for (i, row) in rows.iter_mut().enumerate() {
                let column: [f32; 16] = std::array::from_fn(|j| from[j][i]);
                *row = Self::load(&column);
            }
        }
    }
}

/// Compiles a body that is generic over [`Lanes`] for each class and calls the one asked for:
/// `by_class! { fn name(arguments) = body }` makes `name(class, arguments)`, which calls
/// `body::<V>(arguments)`.
macro_rules! by_class {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(class: crate::network::KernelClass, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $type),*) {
                $body::<crate::network::lanes::Avx512>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $type),*) {
                $body::<crate::network::lanes::Avx2>($($arg),*);
            }
            match class {
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "KernelClass::Avx512 exists only where detection found it")]
                crate::network::KernelClass::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                #[expect(unsafe_code, reason = "KernelClass::Avx2 exists only where detection found it")]
                crate::network::KernelClass::Avx2 => unsafe { avx2($($arg),*) },
                _ => $body::<crate::network::lanes::Portable>($($arg),*),
            }
        }
    };
}
pub(crate) use by_class;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::KernelClass;

    by_class! {
        fn powers(values: &mut [[f32; 16]]) = powers_of
    }

    #[inline(always)]
    fn powers_of<V: Lanes>(values: &mut [[f32; 16]]) {
        for value in values {
            exp2(V::load(value)).store(value);
        }
    }

    by_class! {
        fn turn(rows: &mut [[f32; 16]; 16]) = turned
    }

    #[inline(always)]
    fn turned<V: Lanes>(rows: &mut [[f32; 16]; 16]) {
        let mut tile = [V::splat(0.0); 16];
        for (tile, row) in tile.iter_mut().zip(&*rows) {
            *tile = V::load(row);
        }
        V::transpose(&mut tile);
        for (tile, row) in tile.iter().zip(rows) {
            tile.store(row);
        }
    }

    #[test]
    fn powers_of_two_are_close_to_the_true_ones() {
        let exponents: Vec<f32> = (0..160_000).map(|step| step as f32 / -1_280.0).collect();
        for class in KernelClass::available() {
            let mut values = exponents.as_chunks::<16>().0.to_vec();
            powers(class, &mut values);
            for (&x, &y) in exponents.iter().zip(values.as_flattened()) {
                let truth = f64::from(x).exp2();
                assert!(((f64::from(y) - truth) / truth).abs() < 3e-7, "{class}: 2^{x} is not {y}");
            }
            let mut extremes = [[f32::MIN; 16]];
            powers(class, &mut extremes);
            assert!(extremes[0].iter().all(|&value| (0.0..1e-37).contains(&value)), "{extremes:?}");
        }
    }

    #[test]
    fn rows_become_columns() {
        for class in KernelClass::available() {
            let mut rows: [[f32; 16]; 16] =
                std::array::from_fn(|i| std::array::from_fn(|j| (i * 16 + j) as f32));
            turn(class, &mut rows);
            for (i, row) in rows.iter().enumerate() {
                for (j, &value) in row.iter().enumerate() {
                    assert_eq!(value, (j * 16 + i) as f32, "{class} {i} {j}");
                }
            }
        }
    }
}
