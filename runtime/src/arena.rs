//! The memory that a model works in.

/// Alignment in bytes that a plan's arena needs.
pub const ARENA_ALIGNMENT: usize = 16;

/// `N` bytes of working memory, aligned for every kernel.
///
/// The caller owns it and decides where it lies; between two runs its bytes may be used for anything else, unless the
/// model carries state.
///
/// ```
/// use flowlet::Arena;
/// let mut arena = Arena::<64>::new();
/// assert_eq!(arena.bytes().len(), 64);
/// assert_eq!(arena.bytes().as_ptr() as usize % 16, 0);
/// ```
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct Arena<const N: usize>([i8; N]);

impl<const N: usize> Arena<N> {
    /// An arena of zeros, which needs no space in flash.
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// The bytes. Their number is part of the type, so that generated code proves its bounds at compile time.
    #[inline(always)]
    pub const fn bytes(&mut self) -> &mut [i8; N] {
        &mut self.0
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}
