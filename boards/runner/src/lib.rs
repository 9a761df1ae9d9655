//! Runs flowlet firmware under QEMU and checks what comes out.
//!
//! ```text
//! ELF --launch--> lines of text --line--> report lines --report--> pictures, digest, stack, counts
//!   \--footprint--> flash and static RAM      \--panics--> can this image panic, and from where
//! ```
//!
//! - [`mod@bench`]: counted layers, one line each.
//! - [`board`]: the boards we know, as data.
//! - [`conformance`]: what the conformance firmware said, one line a kernel.
//! - [`launch`]: one emulator process, with a time limit and, if there is one, the counting plugin.
//! - [`mod@line`]: the grammar of report lines.
//! - [`report`]: what a run said, checked for completeness.
//! - [`footprint`]: bytes of flash and RAM, from the ELF file's sections.
//! - [`panics`]: the check that no panic and no allocator is in the image.
//! - [`plugin`]: compiles `icount.c` with the system's C compiler.

pub mod bench;
pub mod board;
pub mod conformance;
mod error;
pub mod footprint;
pub mod launch;
pub mod line;
pub mod panics;
pub mod plugin;
pub mod report;

pub use board::Board;
pub use error::Error;
pub use footprint::Footprint;
pub use launch::{Launch, Output};
pub use report::{Image, Instructions, ModelReport, Report};

use std::path::Path;

/// Everything about one firmware image: measures the file, runs it, checks the report.
///
/// # Errors
/// When the file is not an ELF file for a board, the emulator cannot be started or ends badly,
/// or the report is incomplete.
pub fn run(launch: &Launch<'_>) -> Result<Report, Error> {
    let elf = read(launch.elf)?;
    let footprint = footprint::measure(&elf, launch.board).map_err(|why| why.at(launch.elf))?;
    let output = launch::launch(launch)?;
    report::collect(launch, footprint, &output)
}

/// Reads an ELF file.
///
/// # Errors
/// Says which file and what the system answered.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|why| {
        Error::new(format!("cannot read the firmware image {}: {why}", path.display()))
            .help("build the board first, or pass the path that the build printed")
    })
}
