//! The norms on x86-64 with AVX2.

use super::blocks;
use crate::plan::Norm;
use crate::table::lookup;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    // SAFETY: the same condition.
    unsafe {
        match step.table {
            Some(table) => blocks::run(arena, step, |values| values.map(|q| lookup(table, q))),
            None => blocks::run(arena, step, |values| values),
        }
    }
}
