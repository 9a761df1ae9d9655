//! The boards we can run, as data.

use std::ops::Range;

/// A board that QEMU emulates, and the part that we pretend it carries.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// QEMU's machine name, also the board's name in reports.
    pub name: &'static str,
    /// The core, for people.
    pub core: &'static str,
    /// The core's name in the compiler (`-C target-cpu`).
    pub cpu: &'static str,
    /// The Rust target that its firmware is built for.
    pub target: &'static str,
    /// Where flash is, as far as the linked-for part has any.
    pub flash: Range<u64>,
    /// Where RAM is, as far as the linked-for part has any.
    pub ram: Range<u64>,
}

/// Every board; the only list of them. The memories are those of `boards/support/memory/<name>.x`.
pub const BOARDS: &[Board] = &[
    Board {
        name: "mps2-an386",
        core: "Cortex-M4F",
        cpu: "cortex-m4",
        target: "thumbv7em-none-eabihf",
        flash: 0..0x10_0000,
        ram: 0x2000_0000..0x2004_0000,
    },
    Board {
        name: "mps2-an500",
        core: "Cortex-M7",
        cpu: "cortex-m7",
        target: "thumbv7em-none-eabihf",
        flash: 0..0x20_0000,
        ram: 0x2000_0000..0x2008_0000,
    },
    Board {
        name: "mps2-an505",
        core: "Cortex-M33",
        cpu: "cortex-m33",
        target: "thumbv8m.main-none-eabihf",
        flash: 0x1000_0000..0x1020_0000,
        ram: 0x3800_0000..0x3808_0000,
    },
    Board {
        name: "mps3-an547",
        core: "Cortex-M55",
        cpu: "cortex-m55",
        target: "thumbv8m.main-none-eabihf",
        flash: 0..0x8_0000,
        ram: 0x2000_0000..0x2008_0000,
    },
];

impl Board {
    /// The board of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        BOARDS.iter().find(|board| board.name == name)
    }
}
