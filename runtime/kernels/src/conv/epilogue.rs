//! From accumulators to stored bytes.

use crate::add::sum;
use crate::bytes::i32_at;
use crate::plan::{Epilogue, Slot};
use crate::requant::requantise;
use crate::table::lookup;

/// The bias row that a step uses: `row`, or the last one if there are fewer.
#[inline(always)]
pub fn clamp_row(epilogue: &Epilogue<'_>, row: usize) -> usize {
    let last = epilogue.rows() - 1;
    if row < last { row } else { last }
}

/// First word of a bias row.
///
/// # Safety
/// `row` must be less than `epilogue.rows()`.
#[inline(always)]
pub unsafe fn bias_row(epilogue: &Epilogue<'_>, row: usize) -> *const u8 {
    // SAFETY: a row is as long as the multipliers, and `rows` counts whole rows.
    unsafe { epilogue.bias.as_ptr().add(row * epilogue.multipliers.len()) }
}

/// Requantises, adds the residual, applies the table and stores channels `o..o + B` of one output pixel.
///
/// # Safety
/// The epilogue must fit the output slot, which lies inside the writable `arena`; `pixel` must be inside the output and
/// `o + B` at most its number of channels.
#[inline(always)]
pub unsafe fn finish<const B: usize>(
    arena: *mut i8,
    epilogue: &Epilogue<'_>,
    output: &Slot,
    pixel: usize,
    o: usize,
    acc: [i32; B],
) {
    for (b, acc) in acc.into_iter().enumerate() {
        // SAFETY: there is a multiplier for each output channel; the output's and the residual's spans hold the
        // channel `o + b` of each pixel. The residual is read before the same byte is written.
        unsafe {
            let multiplier = i32_at(epilogue.multipliers.as_ptr(), o + b);
            let mut q = requantise(acc, epilogue.left_shift, multiplier, epilogue.zero_point);
            if let Some(residual) = &epilogue.residual {
                let slot = &residual.slot;
                q = sum(
                    q,
                    arena.add(slot.offset as usize + pixel * slot.pitch as usize + o + b).read(),
                    &residual.params,
                );
            }
            if let Some(table) = epilogue.table {
                q = lookup(table, q);
            }
            arena.add(output.offset as usize + pixel * output.pitch as usize + o + b).write(q);
        }
    }
}
