//! The map on AArch64: sixteen elements at a time, the table in registers.

use crate::elements::blocks;
use crate::neon::{Lookup, load, store};
use crate::plan::Map;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Map<'_>) {
    let table = step.table.map(Lookup::load);
    // SAFETY: `fits` puts both spans inside the arena, and blocks are elements of the spans; each is read before it is
    // written.
    unsafe {
        let (input, out) = (arena.add(step.input.offset as usize), arena.add(step.output.offset as usize));
        blocks(&step.output, step.input.is_contiguous(), |pixel, first, count| {
            let mut q = load(input.add(pixel * step.input.pitch as usize + first), count);
            if let Some(table) = &table {
                q = table.all(q);
            }
            store(out.add(pixel * step.output.pitch as usize + first), count, q);
        });
    }
}
