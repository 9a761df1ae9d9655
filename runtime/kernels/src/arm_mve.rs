//! What the elementwise kernels of cores with the vector extension MVE (Cortex-M55, M85) share.
//!
//! Their inner loops are low-overhead and predicate their tails, so that nothing outside a tensor is read or written.

use crate::plan::Slot;

/// A function in assembly for these cores, in a section of its own: its name, its instructions, then operands.
macro_rules! mve_function {
    ($name:literal, [$($line:expr),* $(,)?] $(, $operand:ident = const $value:expr)* $(,)?) => {
        core::arch::global_asm!(
            ".syntax unified",
            ".thumb",
            ".cpu cortex-m55",
            concat!(".pushsection .text.", $name, ", \"ax\", %progbits"),
            ".p2align 2",
            concat!(".global ", $name),
            concat!(".type ", $name, ", %function"),
            ".thumb_func",
            concat!($name, ":"),
            $($line,)*
            concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            $($operand = const $value,)*
        );
    };
}

/// Runs of neighbouring elements that tensors of one shape have in common: their number and their length.
#[inline(always)]
pub(crate) fn runs(slots: &[&Slot]) -> [usize; 2] {
    let Some(first) = slots.first() else { return [0; 2] };
    if slots.iter().all(|slot| slot.is_contiguous()) {
        [1, first.pixels() * first.channels as usize]
    } else {
        [first.pixels(), first.channels as usize]
    }
}
