//! Instructions of the DSP extension (Cortex-M4, M7, M33) that the compiler does not reach from Rust.
//!
//! A word of four s8 values is taken apart by two SXTB16 into pairs of 16 bits: bytes 0 and 2, and bytes 1 and 3.

use core::arch::asm;

use crate::plan::{Slot, Table};

/// Four bytes, at any alignment.
///
/// # Safety
/// `from` must be readable for four bytes.
#[inline(always)]
pub(crate) unsafe fn load(from: *const i8) -> u32 {
    // SAFETY: the caller's bound; LDR takes any alignment.
    unsafe { from.cast::<u32>().read_unaligned() }
}

/// Writes four bytes at any alignment.
///
/// # Safety
/// `to` must be writable for four bytes.
#[inline(always)]
pub(crate) unsafe fn store(to: *mut i8, word: u32) {
    // SAFETY: the caller's bound; STR takes any alignment.
    unsafe { to.cast::<u32>().write_unaligned(word) }
}

macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident($($operand:ident),*) = $text:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name($($operand: u32),*) -> u32 {
            let d;
            // SAFETY: computes a register from registers.
            unsafe {
                asm!($text, d = lateout(reg) d, $($operand = in(reg) $operand,)*
                     options(pure, nomem, nostack, preserves_flags));
            }
            d
        }
    };
}

instruction!(
    /// Bytes 0 and 2, sign-extended.
    even(x) = "sxtb16 {d}, {x}"
);
instruction!(
    /// Bytes 1 and 3, sign-extended.
    odd(x) = "sxtb16 {d}, {x}, ror #8"
);
instruction!(
    /// Bytes 0 and 2, added to both halves.
    add_even(acc, x) = "sxtab16 {d}, {acc}, {x}"
);
instruction!(
    /// Bytes 1 and 3, added to both halves.
    add_odd(acc, x) = "sxtab16 {d}, {acc}, {x}, ror #8"
);
instruction!(
    /// `acc + a.low * b.low`.
    mac_bb(a, b, acc) = "smlabb {d}, {a}, {b}, {acc}"
);
instruction!(
    /// `acc + a.low * b.high`.
    mac_bt(a, b, acc) = "smlabt {d}, {a}, {b}, {acc}"
);
instruction!(
    /// `acc + a.high * b.low`.
    mac_tb(a, b, acc) = "smlatb {d}, {a}, {b}, {acc}"
);
instruction!(
    /// `acc + a.high * b.high`.
    mac_tt(a, b, acc) = "smlatt {d}, {a}, {b}, {acc}"
);
instruction!(
    /// `a.low * b.low`.
    mul_bb(a, b) = "smulbb {d}, {a}, {b}"
);
instruction!(
    /// `a.high * b.high`.
    mul_tt(a, b) = "smultt {d}, {a}, {b}"
);
instruction!(
    /// `acc + a.low * b.low + a.high * b.high`.
    mac_pair(a, b, acc) = "smlad {d}, {a}, {b}, {acc}"
);
instruction!(
    /// `acc + ((a * b + 2^31) >> 32)`: the requantise law with the zero point as `acc`.
    mul_high_add(a, b, acc) = "smmlar {d}, {a}, {b}, {acc}"
);
instruction!(
    /// The nearest s8, as a word.
    saturate(x) = "ssat {d}, #8, {x}"
);
instruction!(
    /// The nearest s8 of `x >> 16`, as a word.
    shift_saturate(x) = "ssat {d}, #8, {x}, asr #16"
);
instruction!(
    /// The nearest u8 of both signed halves.
    saturate_unsigned_halves(x) = "usat16 {d}, #8, {x}"
);
instruction!(
    /// The low halves of two words.
    halves(low, high) = "pkhbt {d}, {low}, {high}, lsl #16"
);
instruction!(
    /// `a / b` rounded down; 0 for a divisor of 0, so that no check and no panic is left in an image.
    divide(a, b) = "udiv {d}, {a}, {b}"
);
instruction!(
    /// Byte by byte `a - b`, wrapping.
    sub_bytes(a, b) = "usub8 {d}, {a}, {b}"
);
/// Byte by byte the larger of two s8 values.
#[inline(always)]
pub(crate) fn max_bytes(a: u32, b: u32) -> u32 {
    let d;
    // SAFETY: SSUB8 sets a flag for each byte that is not less, by which SEL takes it.
    unsafe {
        asm!("ssub8 {d}, {a}, {b}", "sel {d}, {a}, {b}", d = out(reg) d, a = in(reg) a, b = in(reg) b,
             options(pure, nomem, nostack));
    }
    d
}

/// Four bytes of one value.
#[inline(always)]
pub(crate) const fn splat(byte: i8) -> u32 {
    byte as u8 as u32 * 0x0101_0101
}

/// Two halves of one value.
#[inline(always)]
pub(crate) const fn pair(half: i16) -> u32 {
    half as u16 as u32 * 0x1_0001
}

/// The low bytes of four words, the first lowest.
#[inline(always)]
pub(crate) fn pack([a, b, c, d]: [u32; 4]) -> u32 {
    let low;
    // SAFETY: inserts bytes into registers.
    unsafe {
        asm!("bfi {low}, {b}, #8, #8", "bfi {high}, {d}, #8, #8", "pkhbt {low}, {low}, {high}, lsl #16",
             low = inout(reg) a => low, high = inout(reg) c => _, b = in(reg) b, d = in(reg) d,
             options(pure, nomem, nostack, preserves_flags));
    }
    low
}

/// Where a table's value for 0 is, or null.
#[inline(always)]
pub(crate) fn middle(table: Option<Table<'_>>) -> *const u8 {
    table.map_or(core::ptr::null(), |table| table.as_ptr().wrapping_add(128))
}

/// Four saturated values as bytes, through the table around `middle` if `TABLE`.
///
/// # Safety
/// Each value must be an s8; with `TABLE`, `middle` must be that of a table.
#[inline(always)]
pub(crate) unsafe fn finish<const TABLE: bool>(values: [u32; 4], middle: *const u8) -> u32 {
    if !TABLE {
        return pack(values);
    }
    // SAFETY: an s8 is -128 to 127 bytes from the middle of 256.
    pack(values.map(|q| unsafe { middle.wrapping_offset(q as i32 as isize).read() as u32 }))
}

/// How many runs of bytes lie together in all of these tensors of one shape, and how long each is.
#[inline(always)]
pub(crate) fn runs<const N: usize>(slots: [&Slot; N]) -> (usize, usize) {
    let (pixels, channels) = (slots[0].pixels(), slots[0].channels as usize);
    if slots.iter().all(|slot| slot.is_contiguous()) { (1, pixels * channels) } else { (pixels, channels) }
}
