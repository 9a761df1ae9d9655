//! Marker instructions for counting executed instructions under emulation.
//!
//! The plugin (`boards/runner/icount.c`) counts what is executed between `mov r11, r11` and
//! `mov r10, r10`, the markers not included. Both do nothing, and no compiler emits them.

use core::arch::asm;

/// Runs `work` inside one counted region. What is counted is `work` and nothing else, unless the
/// compiler moves code across the markers; they are barriers for memory, so it does not move what
/// reads or writes any.
#[inline(always)]
pub fn region<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: moves a register to itself: no effect but to be recognised.
    unsafe { asm!("mov r11, r11", options(nostack, preserves_flags)) };
    let answer = work();
    // SAFETY: as above.
    unsafe { asm!("mov r10, r10", options(nostack, preserves_flags)) };
    answer
}
