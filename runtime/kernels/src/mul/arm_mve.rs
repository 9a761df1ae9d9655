//! The product on cores with the vector extension: eight elements in fourteen instructions. The layer's left shift is
//! taken by the operands, of which each has seven bits to spare in 16.

use core::mem::offset_of;
use core::ptr::null;

use crate::arm_mve::runs;
use crate::plan::Mul;

/// Constants, as the assembler reads them. An operand `q` is `q * factor + term`.
#[repr(C)]
struct Constants {
    factors: [i32; 2],
    terms: [i32; 2],
    multiplier: i32,
    zero_point: i32,
    table: *const u8,
}

unsafe extern "C" {
    /// Multiplies `n` elements.
    fn flowlet_mve_mul(out: *mut i8, a: *const i8, b: *const i8, n: usize, constants: *const Constants);
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Mul<'_>) {
    let shift_a = if step.left_shift < 7 { step.left_shift } else { 7 };
    let factors = [1 << shift_a, 1 << (step.left_shift - shift_a)];
    let constants = Constants {
        factors,
        terms: [-i32::from(step.a_zero_point) * factors[0], -i32::from(step.b_zero_point) * factors[1]],
        multiplier: step.multiplier,
        zero_point: step.zero_point.into(),
        table: step.table.map_or(null(), |table| table.as_ptr()),
    };
    let b_pitch = if step.is_broadcast() { 0 } else { step.b.pitch as usize };
    let [count, n] = if step.is_broadcast() {
        [step.output.pixels(), step.output.channels as usize]
    } else {
        runs(&[&step.a, &step.b, &step.output])
    };
    for run in 0..count {
        let at = |offset: u32, pitch: usize| arena.wrapping_add(offset as usize + run * pitch);
        let (a, b) = (at(step.a.offset, step.a.pitch as usize), at(step.b.offset, b_pitch));
        // SAFETY: `fits` puts each slot's span inside the arena, and a run lies inside the spans. Eight elements are
        // read before the same bytes are written.
        unsafe { flowlet_mve_mul(at(step.output.offset, step.output.pitch as usize), a, b, n, &constants) };
    }
}

// Products are twice as wide as operands, so a loop cannot predicate its tail: it would write half a product.
mve_function!(
    "flowlet_mve_mul",
    [
        ".macro flowlet_mve_product",
        "vmlas.s16 q0, q4, r6",
        "vmlas.s16 q1, q5, r7",
        "vmullb.s16 q2, q0, q1",
        "vmullt.s16 q3, q0, q1",
        "vrmulh.s32 q2, q2, q6",
        "vrmulh.s32 q3, q3, q6",
        "vqmovnb.s32 q0, q2",
        "vqmovnt.s32 q0, q3",
        "vqadd.s16 q0, q0, r5",
        ".endm",
        ".macro flowlet_mve_products table",
        "lsrs r12, r3, #3",
        "wls lr, r12, 6f",
        "5:",
        "vldrb.s16 q0, [r1], #8",
        "vldrb.s16 q1, [r2], #8",
        "flowlet_mve_product",
        "flowlet_mve_narrow_\\table",
        "vstrb.16 q0, [r0], #8",
        "le lr, 5b",
        "6:",
        "ands r3, #7",
        "beq 7f",
        "vctp.16 r3",
        "vpstt",
        "vldrbt.s16 q0, [r1]",
        "vldrbt.s16 q1, [r2]",
        "flowlet_mve_product",
        "flowlet_mve_narrow_\\table",
        "vpst",
        "vstrbt.16 q0, [r0]",
        "7:",
        "vpop {{d8-d13}}",
        "pop {{r4-r7, r11, pc}}",
        ".endm",
        ".macro flowlet_mve_narrow_0",
        "vqmovnb.s16 q0, q0",
        ".endm",
        ".macro flowlet_mve_narrow_1",
        "vqshlu.s16 q1, q0, #8",
        "vshr.u16 q1, q1, #8",
        "vldrb.u16 q0, [r4, q1]",
        ".endm",
        "push {{r4-r7, r11, lr}}",
        "vpush {{d8-d13}}",
        "ldr r12, [sp, #72]",
        "ldrd r4, r5, [r12, #{factors}]",
        "ldrd r6, r7, [r12, #{terms}]",
        "vdup.16 q4, r4",
        "vdup.16 q5, r5",
        "ldrd r4, r5, [r12, #{multiplier}]",
        "vdup.32 q6, r4",
        "ldr r4, [r12, #{table}]",
        "cmp r4, #0",
        "bne 4f",
        "flowlet_mve_products 0",
        "4:",
        // To places in the table, 0 to 255.
        "add r5, #128",
        "flowlet_mve_products 1",
        ".purgem flowlet_mve_product",
        ".purgem flowlet_mve_products",
        ".purgem flowlet_mve_narrow_0",
        ".purgem flowlet_mve_narrow_1",
    ],
    factors = const offset_of!(Constants, factors),
    terms = const offset_of!(Constants, terms),
    multiplier = const offset_of!(Constants, multiplier),
    table = const offset_of!(Constants, table),
);
