//! Finds a Rust toolchain that can build for a bare-metal Arm target.
//!
//! Two forms will do. The usual one is a toolchain with the target's library, which rustup
//! installs. The last resort is one with the library's source, which Debian packages: it builds
//! the library along (`-Zbuild-std`) and links with GNU ld.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo;

/// Forces one form, for tests of both: `rustup` or `debian`.
const FORCE: &str = "FLOWLET_ARM_RUST";
/// Debian's toolchain is at a fixed place, beside whatever else is in the path.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The linker that comes with Debian's cross binutils.
pub const GNU_LD: &str = "arm-none-eabi-ld";

/// A toolchain that can build for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArmRust {
    /// The toolchain in use has the target's library.
    Library,
    /// The toolchain in `/usr/bin` has the library's source.
    Source,
}

/// The best toolchain that is there for this target.
pub fn find(target: &str) -> Option<ArmRust> {
    let forced = std::env::var(FORCE).unwrap_or_default();
    let library = forced != "debian" && has_library(target);
    let source = || forced != "rustup" && has_source() && cargo::exists(GNU_LD);
    if library {
        Some(ArmRust::Library)
    } else if source() {
        Some(ArmRust::Source)
    } else {
        None
    }
}

/// Whether rustup is there and may be asked to add a target.
pub fn may_ask_rustup() -> bool {
    std::env::var(FORCE).is_ok_and(|forced| forced != "debian") || std::env::var_os(FORCE).is_none()
}

/// Whether the toolchain in use has the target's library.
pub fn has_library(target: &str) -> bool {
    let Some(folder) = cargo::answer("rustc", &["--print", "target-libdir", "--target", target]) else {
        return false;
    };
    let Ok(files) = std::fs::read_dir(folder) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

fn has_source() -> bool {
    let Some(sysroot) = cargo::answer(DEBIAN_RUSTC, &["--print", "sysroot"]) else { return false };
    let source = PathBuf::from(sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    source.exists() && Path::new(DEBIAN_CARGO).exists()
}

impl ArmRust {
    /// For reports: which compiler, and how it came by the library.
    pub fn describe(&self) -> String {
        let (rustc, how) = match self {
            Self::Library => ("rustc", "the target's library"),
            Self::Source => (DEBIAN_RUSTC, "the library built from source"),
        };
        let version = cargo::answer(rustc, &["--version"]).unwrap_or_default();
        let version = version.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        format!("{version}, {how}")
    }

    /// A call of cargo in a folder of `boards/`, whose own configuration has the linker's arguments, for the core `cpu`.
    pub fn call(&self, folder: &Path, target: &str, cpu: &str) -> Command {
        let mut command = match self {
            Self::Library => Command::new(cargo::program()),
            Self::Source => from_source(target),
        };
        // What is set for the host's builds is not meant for the board's.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            command.env_remove(name);
        }
        // Cargo joins the flags of all configurations, and of two cores the compiler takes the last.
        command.arg("--config").arg(format!("target.{target}.rustflags=[\"-Ctarget-cpu={cpu}\"]"));
        command.current_dir(folder).env("CARGO_TARGET_DIR", cargo::target().join("boards"));
        command
    }
}

fn from_source(target: &str) -> Command {
    let mut command = Command::new(DEBIAN_CARGO);
    command.args(["-Zbuild-std=core,compiler_builtins"]);
    command.arg("--config").arg(format!("target.{target}.linker=\"{GNU_LD}\""));
    command.arg("--config").arg(format!("target.{target}.rustflags=[\"-Clinker-flavor=ld\"]"));
    command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTDOC"] {
        command.env_remove(name);
    }
    command
}
