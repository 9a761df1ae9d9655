//! Marker instructions for counting executed instructions under emulation.
//!
//! The plugin (`boards/runner/icount.c`) counts what is executed between `mov r11, r11` and
//! `mov r10, r10`, the markers not included. Both do nothing, and no compiler emits them.

use core::arch::asm;
use core::hint::black_box;

/// Runs `work` inside one counted region.
///
/// Never inlined, and opaque in what `work` captures: else the compiler unrolls the caller's loop
/// or clones this function for one seed, moves an instruction of the caller's between the markers,
/// and equal work counts differently.
#[inline(never)]
pub fn region<T>(work: impl FnOnce() -> T) -> T {
    let work = black_box(work);
    // SAFETY: moves a register to itself: no effect but to be recognised. As every asm block
    // without `nomem` it is a barrier for memory: no load or store of `work` moves across it.
    unsafe { asm!("mov r11, r11", options(nostack, preserves_flags)) };
    let answer = work();
    // SAFETY: as above.
    unsafe { asm!("mov r10, r10", options(nostack, preserves_flags)) };
    answer
}
