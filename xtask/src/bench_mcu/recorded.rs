//! What CMSIS-NN executes for the same layers.
//!
//! Counted once with the same plugin and emulator (QEMU 7.2.22): CMSIS-NN 4ab83cc3 (2026-06-17), int8, one call, batch
//! 1, per-channel requantisation, `-O3`, by arm-none-eabi-gcc 12.2.1 and by clang 19.1.7. Each figure is the better of
//! the two compilers; neither wins everywhere. Counts are the same at every run, so nothing is measured again.

/// Whose figures these are, for tables.
pub const PEER: &str = "CMSIS-NN 4ab83cc3, best of gcc 12.2.1 and clang 19.1.7, -O3";

/// What a layer's instructions are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Multiply-accumulates.
    Macs(u64),
    /// Elements of the output; of the input for a global pool.
    Elements(u64),
}

/// One layer of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The layer, as the firmware names it.
    pub layer: &'static str,
    /// Its size.
    pub size: Size,
    /// Instructions of the peer on Cortex-M4 and on Cortex-M55.
    pub peer: [u64; 2],
    /// Most that we may execute, in percent of the peer's.
    pub goal: [u64; 2],
}

const fn row(layer: &'static str, size: Size, peer: [u64; 2], goal: [u64; 2]) -> Recorded {
    Recorded { layer, size, peer, goal }
}

use Size::{Elements, Macs};

/// The table.
pub const ROWS: &[Recorded] = &[
    row("conv3x3_28x28x32_32", Macs(7_225_344), [13_908_379, 1_811_262], [60, 75]),
    row("conv3x3_14x14x64_64", Macs(7_225_344), [12_724_063, 1_480_492], [60, 75]),
    row("conv3x3_7x7x128_128", Macs(7_225_344), [12_377_225, 1_372_424], [60, 75]),
    row("conv3x3_28x28x1_32", Macs(225_792), [1_962_358, 617_562], [40, 60]),
    row("conv3x3_28x28x3_32", Macs(677_376), [2_816_436, 686_554], [60, 60]),
    row("conv3x3_28x28x32_1", Macs(225_792), [1_483_939, 274_034], [60, 75]),
    row("conv3x3s2_28x28x32_64", Macs(3_612_672), [6_701_343, 849_747], [60, 75]),
    row("conv1x1_14x14x64_64", Macs(802_816), [1_664_288, 312_134], [60, 65]),
    row("conv1x1_28x28x32_32", Macs(802_816), [2_161_968, 489_171], [60, 65]),
    row("conv1x1_7x7x128_128", Macs(802_816), [1_456_704, 229_199], [60, 65]),
    row("conv1x1s2_28x28x32_64", Macs(401_408), [1_198_365, 278_997], [60, 65]),
    row("dw3x3_28x28x32", Macs(225_792), [2_008_053, 588_611], [40, 45]),
    row("dw3x3_14x14x64", Macs(112_896), [967_439, 253_662], [40, 45]),
    row("dw3x3_7x7x128", Macs(56_448), [461_526, 129_047], [40, 45]),
    row("dw3x3s2_28x28x32", Macs(56_448), [502_863, 147_397], [40, 45]),
    row("dw5x5_14x14x64", Macs(313_600), [2_934_908, 533_042], [40, 45]),
    row("fc_256_256_b1", Macs(65_536), [135_642, 13_252], [60, 85]),
    row("fc_64_64_b1", Macs(4_096), [10_973, 1_492], [60, 85]),
    row("fc_512_10_b1", Macs(5_120), [10_234, 1_200], [65, 85]),
    row("fc_256_256_b16", Macs(1_048_576), [2_169_502, 211_462], [60, 85]),
    row("tconv2x2s2_14x14x64_32", Macs(1_605_632), [12_357_061, 1_572_718], [60, 60]),
    row("tconv4x4s2_7x7x64_32", Macs(1_605_632), [11_401_241, 1_273_539], [60, 60]),
    row("softmax_1x10", Elements(10), [4_475, 1_692], [4, 60]),
    row("softmax_1x256", Elements(256), [107_950, 19_229], [4, 60]),
    row("softmax_49x49", Elements(2_401), [1_009_736, 202_126], [4, 60]),
    row("add_28x28x32", Elements(25_088), [2_038_130, 207_054], [10, 60]),
    row("mul_28x28x32", Elements(25_088), [878_155, 100_389], [35, 60]),
    row("avgpool2x2_28x28x32", Elements(6_272), [248_892, 80_260], [30, 60]),
    row("maxpool2x2_28x28x32", Elements(6_272), [243_011, 27_645], [30, 60]),
    row("gap_7x7x128", Elements(6_272), [34_446, 7_290], [30, 60]),
    row("bmm_4x49x32_32x49", Macs(307_328), [1_094_702, 203_704], [60, 60]),
];
