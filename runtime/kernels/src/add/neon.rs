//! The sum on AArch64: sixteen elements at a time.

use crate::elements::blocks;
use crate::neon::{Lookup, Sum, load, store};
use crate::plan::Add;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Add<'_>) {
    let sum = Sum::new(&step.params);
    let table = step.table.map(Lookup::load);
    // SAFETY: `fits` puts each slot's span inside the arena, and blocks are elements of the spans. Each is read before it
    // is written, and operands at the same place coincide.
    unsafe {
        let (a, b) = (arena.add(step.a.offset as usize), arena.add(step.b.offset as usize));
        let out = arena.add(step.output.offset as usize);
        blocks(&step.output, step.a.is_contiguous() && step.b.is_contiguous(), |pixel, first, count| {
            let a = load(a.add(pixel * step.a.pitch as usize + first), count);
            let b = load(b.add(pixel * step.b.pitch as usize + first), count);
            let mut q = sum.sixteen(a, b);
            if let Some(table) = &table {
                q = table.all(q);
            }
            store(out.add(pixel * step.output.pitch as usize + first), count, q);
        });
    }
}
