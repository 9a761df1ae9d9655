//! Constants are little-endian bytes without alignment, so that a blob can be placed in any section.

/// The little-endian i32 number `index` of a constant.
///
/// # Safety
/// `bytes` must be readable for `4 * (index + 1)` bytes.
#[inline(always)]
pub(crate) unsafe fn i32_at(bytes: *const u8, index: usize) -> i32 {
    // SAFETY: the caller's bound; [u8; 4] has alignment 1.
    i32::from_le_bytes(unsafe { bytes.add(4 * index).cast::<[u8; 4]>().read() })
}
