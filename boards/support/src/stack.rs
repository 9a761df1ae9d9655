//! Measures stack depth by painting.
//!
//! [`measure`] fills the free stack below the caller with a pattern, calls the work, and looks
//! for the lowest word that changed. What it reports is what the work used below its caller.

use core::arch::asm;

/// A word that programs do not write by chance.
const PAINT: u32 = 0xC0DE_FEED;

unsafe extern "C" {
    /// The lowest address the stack may reach: the end of static memory. From the linker script
    /// of cortex-m-rt.
    static _stack_end: u32;
}

/// Runs `work` and returns its answer and how many bytes of stack it used below this call.
/// Only for programs without interrupts, whose stack would be counted too.
#[inline(never)]
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, u32) {
    let bottom = &raw const _stack_end;
    let top = paint(bottom);
    let answer = work();
    (answer, depth(bottom, top))
}

/// Paints from `bottom` up to the stack pointer and returns the latter.
#[inline(always)]
fn paint(bottom: *const u32) -> usize {
    let top;
    // SAFETY: writes only below the stack pointer, which no live value uses, and not below the
    // end of static memory. One block of assembly, so that nothing is pushed while it runs; no
    // interrupt is enabled. Below sp there is no red zone on this architecture.
    unsafe {
        asm!(
            "2:",
            "cmp {at}, sp",
            "bhs 3f",
            "str {paint}, [{at}], #4",
            "b 2b",
            "3:",
            "mov {top}, sp",
            at = inout(reg) bottom => _,
            paint = in(reg) PAINT,
            top = lateout(reg) top,
        );
    }
    top
}

/// The distance from `top` down to the lowest word between `bottom` and it that lost its paint.
fn depth(bottom: *const u32, top: usize) -> u32 {
    let mut at = bottom;
    while (at as usize) < top {
        // SAFETY: `bottom..top` is aligned, inside the stack's memory and was written by `paint`.
        // Volatile, since to the compiler nobody has written here.
        if unsafe { at.read_volatile() } != PAINT {
            break;
        }
        at = at.wrapping_add(1);
    }
    (top - at as usize) as u32
}
