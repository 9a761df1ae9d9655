//! What the assembler needs to know of an epilogue.

use core::ptr::null;

use crate::plan::Epilogue;

/// Constants of a layer's epilogue, as the kernels in this folder read them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub(super) left_shift: u32,
    pub(super) zero_point: i32,
    /// Multiplier of the result, multiplier of the residual.
    pub(super) gains: [i32; 2],
    /// Constant of the sum, its rounding included.
    pub(super) constant: i32,
    /// Left shift of the sum: negative.
    pub(super) shift: i32,
    /// The middle of the table, or null.
    pub(super) table: *const u8,
    /// Not zero when there is a residual or a table.
    pub(super) more: u32,
    /// Not zero when there is a residual.
    pub(super) has_residual: u32,
}

impl Finish {
    pub(super) fn new(epilogue: &Epilogue<'_>) -> Finish {
        let mut finish = Finish {
            left_shift: epilogue.left_shift as u32,
            zero_point: epilogue.zero_point as i32,
            gains: [0; 2],
            constant: 0,
            shift: 0,
            table: epilogue.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
            more: (epilogue.table.is_some() || epilogue.residual.is_some()) as u32,
            has_residual: epilogue.residual.is_some() as u32,
        };
        if let Some(residual) = &epilogue.residual {
            let params = &residual.params;
            finish.gains = [params.ma as i32, params.mb as i32];
            finish.constant = params.c.wrapping_add(1 << (params.shift - 1));
            finish.shift = -(params.shift as i32);
        }
        finish
    }
}
