//! Bytes of flash and RAM, from an ELF file's sections.

use std::fmt;

use object::elf::SHF_ALLOC;
use object::{Object, ObjectSection, SectionFlags, SectionKind};

use crate::{Board, Error};

/// What an image takes of a part's memories. The stack is apart: it is measured, not linked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Code, constants and the initial values of static memory.
    pub flash: u64,
    /// What the part has.
    pub flash_limit: u64,
    /// Static memory, which includes the model's arena.
    pub ram_static: u64,
    /// What the part has.
    pub ram_limit: u64,
}

/// Adds up an image's sections.
///
/// # Errors
/// When the file is not an ELF file for Arm, a section lies outside the part's memories, or the
/// sections are more than the part has.
pub fn measure(elf: &[u8], board: &Board) -> Result<Footprint, Error> {
    let file = object::File::parse(elf).map_err(|why| Error::new(format!("not an ELF file: {why}")))?;
    if file.architecture() != object::Architecture::Arm {
        return Err(Error::new(format!("built for {:?}, not for Arm", file.architecture()))
            .help(format!("build it for the target {}", board.target)));
    }
    let mut footprint = Footprint {
        flash_limit: board.flash.end - board.flash.start,
        ram_limit: board.ram.end - board.ram.start,
        ..Footprint::default()
    };
    for section in file.sections().filter(|section| section.size() > 0 && is_loaded(section)) {
        let (start, size) = (section.address(), section.size());
        let within = |memory: &std::ops::Range<u64>| memory.contains(&start) && size <= memory.end - start;
        if within(&board.flash) {
            footprint.flash += size;
        } else if within(&board.ram) {
            footprint.ram_static += size;
            if section.kind() != SectionKind::UninitializedData {
                footprint.flash += size;
            }
        } else {
            return Err(Error::new(format!(
                "section `{}` ({size} B at {start:#x}) is outside the flash and RAM of {}",
                section.name().unwrap_or("?"),
                board.name
            )));
        }
    }
    footprint.fits(board)
}

/// Whether a section is there at run time, with bytes or without.
fn is_loaded<'data>(section: &impl ObjectSection<'data>) -> bool {
    matches!(section.flags(), SectionFlags::Elf { sh_flags } if sh_flags & u64::from(SHF_ALLOC) != 0)
}

impl Footprint {
    fn fits(self, board: &Board) -> Result<Self, Error> {
        for (what, used, limit) in [("flash", self.flash, self.flash_limit), ("RAM", self.ram_static, self.ram_limit)] {
            if used > limit {
                return Err(Error::new(format!(
                    "takes {used} B of {what}, and {} has {limit} B: {} B too many",
                    board.name,
                    used - limit
                )));
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "flash         {} B of {}", self.flash, self.flash_limit)?;
        write!(f, "RAM, static   {} B of {}", self.ram_static, self.ram_limit)
    }
}
