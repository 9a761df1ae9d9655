//! The norms on x86-64 with AVX2.

use super::blocks;
use crate::avx2::{Lookup, load, store};
use crate::plan::Norm;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    // SAFETY: the same condition.
    unsafe {
        match step.table {
            Some(table) => {
                let table = Lookup::load(table);
                blocks::run(arena, step, |mut values| {
                    store(values.as_mut_ptr(), values.len(), table.sixteen(load(values.as_ptr(), values.len())));
                    values
                });
            }
            None => blocks::run(arena, step, |values| values),
        }
    }
}
