//! Few pixels, above all a fully connected layer: one pixel's activations stay widened, and every weight is read once,
//! several channels' words by one load.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr::null;

use super::widen::Gather;
use crate::conv::epilogue::finish;
use crate::conv::layer::Layer;

/// Most channels of a panel.
const MOST: usize = 5;
/// Groups of four products in a turn of the inner loop.
const TURN: usize = 8;
/// Bytes of code of one group for panels of four and of five channels: every instruction takes four.
const CODE_4: usize = 4 * 18;
const CODE_5: usize = 4 * 23;

/// What the inner functions read; they move `multipliers`, `output`, `panels`, `bias` and `weights` on. The first six
/// words are loaded together.
#[repr(C)]
struct Row {
    multipliers: *const u8,
    left_shift: u32,
    zero_point: i32,
    /// The middle of the table, or null.
    table: *const u8,
    output: *mut i8,
    /// Panels to store; none to leave the accumulators of one panel in `raw`.
    panels: usize,
    bias: *const u8,
    weights: *const u8,
    activations: *const u32,
    /// Past the last of them.
    end: *const u32,
    /// Bytes of code that the first turn of the inner loop leaves out.
    entry: usize,
    raw: [i32; MOST],
}

/// Runs a layer packed as panels of `NR` channels, 4 or 5.
///
/// # Safety
/// As [`run_layer`](super::run_layer).
#[inline(always)]
pub(super) unsafe fn run<const NR: usize>(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let (epilogue, output) = (layer.epilogue, layer.output);
    let channels = output.channels as usize;
    let products = layer.padded_products();
    let activations: *mut u32 = layer.scratch.cast();
    let end = layer.scratch.wrapping_add(2 * products);
    let gather = Gather::new(arena, layer);
    let code = if NR == 5 { CODE_5 } else { CODE_4 };
    // A residual is added outside, where no layer here is long.
    let panels = if epilogue.residual.is_some() { 0 } else { channels / NR };
    for y in 0..geometry.pixels[0] {
        for x in 0..geometry.pixels[1] {
            let pixel = geometry.pixel([y, x]);
            // SAFETY: the scratch memory holds the pairs of a window and its bytes.
            unsafe { gather.pixel([y, x], activations) };
            let mut row = Row {
                multipliers: epilogue.multipliers.as_ptr(),
                left_shift: epilogue.left_shift as u32,
                zero_point: epilogue.zero_point as i32,
                table: epilogue.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
                output: arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize),
                panels,
                bias: layer.bias,
                weights: layer.weights,
                activations,
                end: end.cast(),
                entry: (TURN - products / 4 % TURN) % TURN * code,
                raw: [0; MOST],
            };
            let compute = if NR == 5 { compute_5 } else { compute_4 };
            // SAFETY: the weights hold a whole panel for each `NR` channels, the constants a word for each padded
            // channel; the channels of whole panels, and those that are finished outside, are inside the output.
            unsafe {
                if panels > 0 {
                    compute(&mut row);
                }
                row.panels = 0;
                let mut o = NR * panels;
                while o < channels {
                    compute(&mut row);
                    for (i, &acc) in row.raw.iter().enumerate().take(NR.min(channels - o)) {
                        finish(arena, epilogue, output, pixel, o + i, [acc]);
                    }
                    o += NR;
                }
            }
        }
    }
}

/// The loop over panels of one pixel. `$products` adds four products to every channel of a panel, `$accs` lists the
/// accumulators, and the other lists are instructions for each.
macro_rules! compute {
    ($(#[$doc:meta])* $name:ident, $accs:literal, [$($products:literal),*], [$($shift:literal),*],
     [$($requantise:literal),*], [$($lookup:literal),*], [$($store:literal),*]) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `row` must describe memory as [`run`] does, with a positive even number of activation words.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(row: &mut Row) {
            naked_asm!(
                // Armv8-M has these instructions only by the name of a core, which LLVM forgets when it writes bitcode.
                ".cpu cortex-m4",
                "push {{r4-r11, lr}}",
                "ldr r1, [r0, #{end}]",
                "ldr r11, [r0, #{weights}]",
                "push {{r0, r1}}",
                "mov lr, r0",
                "2:",
                "ldr r12, [lr, #{bias}]",
                concat!("ldm r12!, {{", $accs, "}}"),
                "str r12, [lr, #{bias}]",
                "ldr r12, [lr, #{entry}]",
                "ldr lr, [lr, #{activations}]",
                // The first turn may begin inside: this adds to the address of label 3.
                "add pc, r12",
                "nop",
                "3:",
                $($products,)*
                $($products,)*
                $($products,)*
                $($products,)*
                $($products,)*
                $($products,)*
                $($products,)*
                $($products,)*
                "ldr r12, [sp, #4]",
                "cmp lr, r12",
                "bne 3b",
                "ldr lr, [sp]",
                "ldm lr, {{r5-r10}}",
                "cmp r10, #0",
                "beq 8f",
                "cbz r6, 4f",
                $($shift,)*
                "4:",
                $($requantise,)*
                "str r5, [lr]",
                "cmp r8, #0",
                "beq 5f",
                $($lookup,)*
                "5:",
                $($store,)*
                "subs r10, #1",
                "strd r9, r10, [lr, #{output}]",
                "bne 2b",
                "b 9f",
                "8:",
                "add r12, lr, #{raw}",
                concat!("stm r12, {{", $accs, "}}"),
                "9:",
                "str r11, [lr, #{weights}]",
                "add sp, #8",
                "pop {{r4-r11, pc}}",
                activations = const offset_of!(Row, activations),
                entry = const offset_of!(Row, entry),
                end = const offset_of!(Row, end),
                weights = const offset_of!(Row, weights),
                bias = const offset_of!(Row, bias),
                output = const offset_of!(Row, output),
                raw = const offset_of!(Row, raw),
            )
        }
    };
}

compute!(
    /// Panels of four channels: r0-r3 accumulators, r4-r7 weights, r11 their place, lr the activations'.
    compute_4,
    "r0-r3",
    [
        "ldm r11!, {{r4-r7}}",
        "ldrd r8, r9, [lr], #8",
        "sxtb16 r10, r4",
        "sxtb16 r4, r4, ror #8",
        "smlad r0, r10, r8, r0",
        "sxtb16 r10, r5",
        "sxtb16 r5, r5, ror #8",
        "smlad r1, r10, r8, r1",
        "sxtb16 r10, r6",
        "sxtb16 r6, r6, ror #8",
        "smlad r2, r10, r8, r2",
        "sxtb16 r10, r7",
        "sxtb16 r7, r7, ror #8",
        "smlad r3, r10, r8, r3",
        "smlad r0, r4, r9, r0",
        "smlad r1, r5, r9, r1",
        "smlad r2, r6, r9, r2",
        "smlad r3, r7, r9, r3"
    ],
    ["lsl r0, r0, r6", "lsl r1, r1, r6", "lsl r2, r2, r6", "lsl r3, r3, r6"],
    [
        "ldrd r6, r12, [r5], #8",
        "smmlar r0, r0, r6, r7",
        "smmlar r1, r1, r12, r7",
        "ldrd r6, r12, [r5], #8",
        "smmlar r2, r2, r6, r7",
        "smmlar r3, r3, r12, r7",
        "ssat r0, #8, r0",
        "ssat r1, #8, r1",
        "ssat r2, #8, r2",
        "ssat r3, #8, r3"
    ],
    ["ldrb r0, [r8, r0]", "ldrb r1, [r8, r1]", "ldrb r2, [r8, r2]", "ldrb r3, [r8, r3]"],
    ["strb r0, [r9], #1", "strb r1, [r9], #1", "strb r2, [r9], #1", "strb r3, [r9], #1"]
);

compute!(
    /// Panels of five channels: r0-r4 accumulators, r5-r9 weights, r11 their place, lr the activations'.
    compute_5,
    "r0-r4",
    [
        "ldm r11!, {{r5-r9}}",
        "ldr r12, [lr], #4",
        "sxtb16 r10, r5",
        "smlad r0, r10, r12, r0",
        "sxtb16 r10, r6",
        "smlad r1, r10, r12, r1",
        "sxtb16 r10, r7",
        "smlad r2, r10, r12, r2",
        "sxtb16 r10, r8",
        "smlad r3, r10, r12, r3",
        "sxtb16 r10, r9",
        "smlad r4, r10, r12, r4",
        "ldr r12, [lr], #4",
        "sxtb16 r5, r5, ror #8",
        "sxtb16 r6, r6, ror #8",
        "sxtb16 r7, r7, ror #8",
        "sxtb16 r8, r8, ror #8",
        "sxtb16 r9, r9, ror #8",
        "smlad r0, r5, r12, r0",
        "smlad r1, r6, r12, r1",
        "smlad r2, r7, r12, r2",
        "smlad r3, r8, r12, r3",
        "smlad r4, r9, r12, r4"
    ],
    ["lsl r0, r0, r6", "lsl r1, r1, r6", "lsl r2, r2, r6", "lsl r3, r3, r6", "lsl r4, r4, r6"],
    [
        "ldrd r6, r12, [r5], #8",
        "smmlar r0, r0, r6, r7",
        "smmlar r1, r1, r12, r7",
        "ldrd r6, r12, [r5], #8",
        "smmlar r2, r2, r6, r7",
        "smmlar r3, r3, r12, r7",
        "ldr r6, [r5], #4",
        "smmlar r4, r4, r6, r7",
        "ssat r0, #8, r0",
        "ssat r1, #8, r1",
        "ssat r2, #8, r2",
        "ssat r3, #8, r3",
        "ssat r4, #8, r4"
    ],
    [
        "ldrb r0, [r8, r0]",
        "ldrb r1, [r8, r1]",
        "ldrb r2, [r8, r2]",
        "ldrb r3, [r8, r3]",
        "ldrb r4, [r8, r4]"
    ],
    [
        "strb r0, [r9], #1",
        "strb r1, [r9], #1",
        "strb r2, [r9], #1",
        "strb r3, [r9], #1",
        "strb r4, [r9], #1"
    ]
);
