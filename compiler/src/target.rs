//! What a model is lowered for. A target is named by the user, never guessed from a triple: two chips that share a
//! triple may differ in kernels, memories and sections. A part that is not built in is described in a file
//! ([`Target::parse`]).

mod describe;

pub use describe::DescriptionError;

use flowlet_plan::Isa;
use std::borrow::Cow;

/// A chip, or a family of hosts: its kernels and its memories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name to give to `--target` and to `flowlet_build::Model::target`.
    pub name: Cow<'static, str>,
    /// The Rust target that the generated code is built with; `None` when any will do.
    pub triple: Option<Cow<'static, str>>,
    /// Value of `target_arch` that the generated code insists on; `None` when any will do.
    pub arch: Option<Cow<'static, str>>,
    /// The instruction set whose kernels the weights are packed for.
    pub isa: Isa,
    /// Linker section of the weights; `None` leaves them to the compiler and the generated code without attributes.
    pub weights_section: Option<Cow<'static, str>>,
    /// Flash of the part in bytes, if it is limited. Program and weights share it.
    pub flash_bytes: Option<usize>,
    /// RAM of the part in bytes, if it is limited. Arena, stack and the program's own data share it.
    pub ram_bytes: Option<usize>,
    /// Memories of the part, of each kind the fastest first; none where `flash_bytes` and `ram_bytes` say all. The arena lies in
    /// the first RAM that holds it. Weights lie in the first flash; what does not fit there and is read least lies in the
    /// first other flash that holds it.
    pub memories: Cow<'static, [Memory]>,
    /// Cargo features of `flowlet` whose kernels the plan uses; without them the generated code does not compile.
    pub features: &'static [&'static str],
}

/// What a memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Arena, stack and data.
    Ram,
    /// Program and constants: on the chip, or behind a serial interface that is mapped into the address space.
    Flash,
}

impl MemoryKind {
    /// The name in descriptions and reports.
    pub fn name(self) -> &'static str {
        match self {
            MemoryKind::Ram => "ram",
            MemoryKind::Flash => "flash",
        }
    }
}

/// One memory of a part: a range of addresses without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it holds.
    pub kind: MemoryKind,
    /// What of it the model may take.
    pub bytes: usize,
    /// Linker section that lies in it; `None` where the linker script needs none.
    pub section: Option<Cow<'static, str>>,
}

const fn memory(name: &'static str, kind: MemoryKind, bytes: usize, section: Option<&'static str>) -> Memory {
    let section = match section {
        Some(section) => Some(Cow::Borrowed(section)),
        None => None,
    };
    Memory { name: Cow::Borrowed(name), kind, bytes, section }
}

/// STM32H743: what of the memories an application has; sections as ST's linker scripts name the regions.
const STM32H743: &[Memory] = &[
    memory("dtcm", MemoryKind::Ram, 128 * 1024, Some(".dtcm")),
    memory("axi", MemoryKind::Ram, 512 * 1024, None),
    memory("sram", MemoryKind::Ram, 288 * 1024, Some(".sram")),
    memory("flash", MemoryKind::Flash, 2048 * 1024, Some(".rodata.flowlet")),
    memory("qspi", MemoryKind::Flash, 8192 * 1024, Some(".qspi.flowlet")),
];

const SCALAR: Target = Target {
    name: Cow::Borrowed("host"),
    triple: None,
    arch: None,
    isa: Isa::Scalar,
    weights_section: None,
    flash_bytes: None,
    ram_bytes: None,
    memories: Cow::Borrowed(&[]),
    features: &[],
};

/// The section of weights on microcontrollers. It begins with `.rodata.`, so that every linker script that collects
/// read-only data places it in flash, and one that knows the name can place it elsewhere.
const WEIGHTS_SECTION: Option<Cow<'static, str>> = Some(Cow::Borrowed(".rodata.flowlet"));

/// The built-in targets.
pub const TARGETS: &[Target] = &[
    SCALAR,
    Target {
        name: Cow::Borrowed("qemu-mps2-an386"),
        triple: Some(Cow::Borrowed("thumbv7em-none-eabihf")),
        arch: Some(Cow::Borrowed("arm")),
        isa: Isa::ArmDsp,
        features: &["arm_dsp"],
        weights_section: WEIGHTS_SECTION,
        flash_bytes: Some(1024 * 1024),
        ram_bytes: Some(256 * 1024),
        memories: Cow::Borrowed(&[]),
    },
    Target {
        name: Cow::Borrowed("qemu-mps2-an500"),
        triple: Some(Cow::Borrowed("thumbv7em-none-eabihf")),
        arch: Some(Cow::Borrowed("arm")),
        isa: Isa::ArmDsp,
        features: &["arm_dsp"],
        weights_section: WEIGHTS_SECTION,
        flash_bytes: Some(2048 * 1024),
        ram_bytes: Some(512 * 1024),
        memories: Cow::Borrowed(&[]),
    },
    Target {
        name: Cow::Borrowed("qemu-mps2-an505"),
        triple: Some(Cow::Borrowed("thumbv8m.main-none-eabihf")),
        arch: Some(Cow::Borrowed("arm")),
        isa: Isa::ArmDsp,
        features: &["arm_dsp"],
        weights_section: WEIGHTS_SECTION,
        flash_bytes: Some(2048 * 1024),
        ram_bytes: Some(512 * 1024),
        memories: Cow::Borrowed(&[]),
    },
    Target {
        name: Cow::Borrowed("qemu-mps3-an547"),
        triple: Some(Cow::Borrowed("thumbv8m.main-none-eabihf")),
        arch: Some(Cow::Borrowed("arm")),
        isa: Isa::ArmMve,
        features: &["arm_mve"],
        weights_section: WEIGHTS_SECTION,
        flash_bytes: Some(512 * 1024),
        ram_bytes: Some(512 * 1024),
        memories: Cow::Borrowed(&[]),
    },
    Target {
        name: Cow::Borrowed("stm32h743"),
        triple: Some(Cow::Borrowed("thumbv7em-none-eabihf")),
        arch: Some(Cow::Borrowed("arm")),
        isa: Isa::ArmDsp,
        features: &["arm_dsp"],
        weights_section: WEIGHTS_SECTION,
        memories: Cow::Borrowed(STM32H743),
        ..SCALAR
    },
    Target {
        name: Cow::Borrowed("cortex-m0"),
        triple: Some(Cow::Borrowed("thumbv6m-none-eabi")),
        arch: Some(Cow::Borrowed("arm")),
        weights_section: WEIGHTS_SECTION,
        ..SCALAR
    },
    Target {
        name: Cow::Borrowed("riscv32imac"),
        triple: Some(Cow::Borrowed("riscv32imac-unknown-none-elf")),
        arch: Some(Cow::Borrowed("riscv32")),
        weights_section: WEIGHTS_SECTION,
        ..SCALAR
    },
];

/// A name that no built-in target has, or a file that describes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTarget {
    /// The name given.
    pub name: String,
    /// What is wrong with the file of this name, if it is one.
    pub problem: Option<String>,
}

impl std::fmt::Display for UnknownTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(problem) = &self.problem {
            return write!(f, "{} describes no target: {problem}", self.name);
        }
        let known: Vec<&str> = TARGETS.iter().map(|t| t.name.as_ref()).collect();
        write!(f, "there is no target '{}'; known are {}; a file.toml describes others", self.name, known.join(", "))
    }
}

impl std::error::Error for UnknownTarget {}

impl Target {
    /// Any machine: the portable kernels, no limits and no sections.
    pub fn host() -> Target {
        SCALAR
    }

    /// This machine: the kernels of its own processor, for a plan that runs here and now.
    pub fn native() -> Target {
        Target { name: Cow::Borrowed("this host"), isa: flowlet_kernels::isa::best(), ..SCALAR }
    }

    /// The memories of a kind, the fastest first.
    pub fn memories_of(&self, kind: MemoryKind) -> impl Iterator<Item = &Memory> {
        self.memories.iter().filter(move |m| m.kind == kind)
    }

    /// The built-in target with this name, or that which a file describes whose name ends in `.toml` ([`Target::parse`]).
    ///
    /// # Errors
    /// An unknown name; the message lists the known ones. What is wrong with the file.
    ///
    /// ```
    /// use flowlet_compiler::target::Target;
    /// assert_eq!(Target::named("qemu-mps2-an386").map(|t| t.ram_bytes), Ok(Some(256 * 1024)));
    /// assert!(Target::named("toaster").unwrap_err().to_string().contains("known are host, "));
    /// ```
    pub fn named(name: &str) -> Result<Target, UnknownTarget> {
        let wrong = |problem: Option<String>| UnknownTarget { name: name.to_owned(), problem };
        if name.ends_with(".toml") {
            let text = std::fs::read_to_string(name).map_err(|e| wrong(Some(e.to_string())))?;
            return Target::parse(&text).map_err(|e| wrong(Some(e.to_string())));
        }
        TARGETS.iter().find(|t| t.name == name).cloned().ok_or_else(|| wrong(None))
    }
}
