//! Asking memory for what will be read in a moment. Reads at random places of a large table wait for memory one after
//! another; asked for beforehand, many are on their way at once. It changes nothing but time, and is all the unsafe code
//! there is: the language has no stable safe form of this hint yet.

/// Says that the item at `index` will be read soon. An index beyond the end is no error.
#[inline]
pub(crate) fn ask_for<T>(items: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = items.get(index) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the hint reads nothing and cannot fault; SSE, which has it, is part of every x86-64 processor.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, index);
}
