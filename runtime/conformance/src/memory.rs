//! The memory that the suite works in, given by the caller, because there is no heap.

use flowlet_kernels::plan::{DType, Slot};

use crate::random::Random;

/// Bytes of each arena.
pub const ARENA_BYTES: usize = 24 * 1024;
/// Alignment in bytes of every constant.
const ALIGNMENT: usize = 16;
/// Bytes of constants.
pub const CONSTANT_BYTES: usize = 40 * 1024;

/// Three arenas and room for constants.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Memory {
    pub(crate) before: [i8; ARENA_BYTES],
    pub(crate) got: [i8; ARENA_BYTES],
    pub(crate) want: [i8; ARENA_BYTES],
    pub(crate) constants: [u8; CONSTANT_BYTES],
}

impl Memory {
    /// All zeros.
    pub const fn new() -> Memory {
        Memory {
            before: [0; ARENA_BYTES],
            got: [0; ARENA_BYTES],
            want: [0; ARENA_BYTES],
            constants: [0; CONSTANT_BYTES],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

/// Hands out places of one arena.
#[derive(Debug, Default)]
pub(crate) struct Places {
    used: u32,
    tensors: u16,
}

impl Places {
    /// A slot after the bytes already used, with a gap before it and sometimes between its pixels.
    pub(crate) fn slot(&mut self, random: &mut Random, [height, width, channels]: [u16; 3]) -> Slot {
        let pitch = channels + random.pick(&[0, 0, 1, 5]);
        let offset = self.used + random.below(5);
        self.place(Slot { offset, height, width, channels, pitch, dtype: DType::S8, tensor: self.tensors })
    }

    /// Scratch memory of this many bytes, if any.
    pub(crate) fn scratch(&mut self, bytes: usize) -> Option<Slot> {
        let height = bytes.div_ceil(8);
        let offset = self.used.next_multiple_of(8);
        let slot = Slot {
            offset,
            height: height as u16,
            width: 1,
            channels: 8,
            pitch: 8,
            dtype: DType::S8,
            tensor: self.tensors,
        };
        (height > 0).then(|| self.place(slot))
    }

    fn place(&mut self, slot: Slot) -> Slot {
        self.used = slot.end() as u32;
        self.tensors += 1;
        slot
    }
}

/// Takes `n` bytes from the front of `rest`, aligned as the constants of a lowered model are, or nothing if it is too
/// short.
pub(crate) fn take<'m>(rest: &mut &'m mut [u8], n: usize) -> Option<&'m mut [u8]> {
    let skip = rest.as_ptr().align_offset(ALIGNMENT);
    if rest.len() < n.checked_add(skip)? {
        return None;
    }
    *rest = core::mem::take(rest).split_at_mut(skip).1;
    let (front, back) = core::mem::take(rest).split_at_mut(n);
    *rest = back;
    Some(front)
}
