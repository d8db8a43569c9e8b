//! What will be read soon is asked for before it is.

/// Asks for the cache line that this begins in, and does not wait for it: entries that are looked at together
/// wait for memory together, and what comes after them need not wait at all.
#[inline]
pub(crate) fn ask_for<T>(of: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is a reference's, and a prefetch changes nothing that a program can see.
        #[expect(unsafe_code, reason = "a prefetch takes a pointer")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(of).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(of);
}

/// Asks for all lines of these.
#[inline]
pub(crate) fn ask_for_all<T>(of: &[T]) {
    const LINE: usize = 64;
    of.iter().step_by((LINE / size_of::<T>()).max(1)).for_each(ask_for);
}
