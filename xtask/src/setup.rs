//! What the commands need from the system, and how to get it.
//!
//! Nothing here changes the system unless `install` is true, which is the user's `--install`.

use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flowlet_board_runner::launch::{QEMU, QEMU_PACKAGE};

use crate::{aarch64, arm_rust, cargo};

/// The targets of the boards that we run.
const ARM_TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "thumbv8m.main-none-eabihf"];
/// rustup answers in seconds when it can reach its server; where it cannot, do not wait for it.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(60);

/// Something that a command needs and cargo cannot bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Runs the firmware.
    Emulator,
    /// Builds the firmware.
    ArmRust,
    /// Builds the plugin that counts instructions.
    CCompiler,
    /// Runs programs for AArch64.
    UserEmulator,
    /// Builds them.
    Aarch64Rust,
}

impl Need {
    /// All that any board needs.
    pub const BOARD: &[Self] = &[Self::Emulator, Self::ArmRust, Self::CCompiler];
    /// All that the kernels for AArch64 need to run.
    pub const AARCH64: &[Self] = &[Self::UserEmulator, Self::Aarch64Rust];
    const ALL: &[Self] = &[Self::Emulator, Self::ArmRust, Self::CCompiler, Self::UserEmulator, Self::Aarch64Rust];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emulator => QEMU,
            Self::ArmRust => "Rust for thumbv7em-none-eabihf and thumbv8m.main-none-eabihf",
            Self::CCompiler => "cc",
            Self::UserEmulator => aarch64::QEMU,
            Self::Aarch64Rust => "Rust for aarch64-unknown-linux-musl",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Emulator => "runs the firmware",
            Self::ArmRust => "builds the firmware",
            Self::CCompiler => "builds the plugin that counts instructions",
            Self::UserEmulator => "runs the kernels for AArch64",
            Self::Aarch64Rust => "builds the kernels for AArch64",
        }
    }

    /// Debian's packages that bring it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Emulator => &[QEMU_PACKAGE],
            Self::ArmRust => &["rustc-web", "cargo-web", "rust-web-src", "binutils-arm-none-eabi"],
            Self::CCompiler => &["gcc", "libc6-dev"],
            Self::UserEmulator => &["qemu-user"],
            // Debian has no such library; rustup does.
            Self::Aarch64Rust => &[],
        }
    }

    /// rustup's targets that bring it.
    fn targets(self) -> &'static [&'static str] {
        match self {
            Self::ArmRust => &ARM_TARGETS,
            Self::Aarch64Rust => &[aarch64::TARGET],
            Self::Emulator | Self::CCompiler | Self::UserEmulator => &[],
        }
    }

    /// Whether it is there now.
    pub fn is_met(self) -> bool {
        match self {
            Self::Emulator => cargo::exists(QEMU),
            Self::ArmRust => ARM_TARGETS.iter().all(|target| arm_rust::find(target).is_some()),
            Self::CCompiler => cargo::exists("cc"),
            Self::UserEmulator => cargo::exists(aarch64::QEMU),
            Self::Aarch64Rust => arm_rust::has_library(aarch64::TARGET),
        }
    }
}

/// `cargo xtask setup`.
pub fn command(install: bool) -> ExitCode {
    let missing = ensure(Need::ALL, install);
    for need in Need::ALL {
        let state = if missing.contains(need) { "missing" } else { "there" };
        println!("{state:8} {} ({})", need.name(), need.purpose());
    }
    if let Some(rust) = arm_rust::find(ARM_TARGETS[0]) {
        println!("firmware is built by {}", rust.describe());
    }
    if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sees to it that the needs are met, as far as `install` allows, and returns those that are not.
/// Says what would get them.
pub fn ensure(needs: &[Need], install: bool) -> Vec<Need> {
    let mut missing = unmet(needs);
    if install && !targets(&missing).is_empty() && ask_rustup(&targets(&missing)) {
        missing = unmet(needs);
    }
    if install && !packages(&missing).is_empty() {
        if let Err(why) = install_packages(&missing) {
            println!("{why}");
        }
        missing = unmet(needs);
    }
    if !missing.is_empty() {
        explain(&missing, install);
    }
    missing
}

fn unmet(needs: &[Need]) -> Vec<Need> {
    needs.iter().copied().filter(|need| !need.is_met()).collect()
}

fn packages(missing: &[Need]) -> Vec<&'static str> {
    missing.iter().flat_map(|need| need.packages()).copied().collect()
}

fn targets(missing: &[Need]) -> Vec<&'static str> {
    missing.iter().flat_map(|need| need.targets()).copied().collect()
}

fn explain(missing: &[Need], tried: bool) {
    println!("not there:");
    for need in missing {
        println!("  {} ({})", need.name(), need.purpose());
    }
    println!("what brings it on Debian:");
    if !targets(missing).is_empty() {
        println!("  rustup target add {}", targets(missing).join(" "));
    }
    if missing.contains(&Need::ArmRust) {
        println!("  (or, where rustup cannot, the Rust packages below)");
    }
    if !packages(missing).is_empty() {
        println!("  apt-get update && apt-get install -y --no-install-recommends {}", packages(missing).join(" "));
    }
    if !tried {
        println!("or run the same command with --install. Nothing was changed.");
    }
}

/// Asks rustup for targets; true when it says that they are there now.
fn ask_rustup(targets: &[&str]) -> bool {
    if !arm_rust::may_ask_rustup() || !cargo::exists("rustup") {
        return false;
    }
    println!("$ rustup target add {}", targets.join(" "));
    let child = Command::new("rustup")
        .args(["target", "add"])
        .args(targets)
        .env("RUSTUP_MAX_RETRIES", "0")
        .stdin(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let started = Instant::now();
    while started.elapsed() < RUSTUP_PATIENCE {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(_) => return false,
        }
    }
    println!("rustup gave no answer within {} s", RUSTUP_PATIENCE.as_secs());
    // Both fail only when it has ended by now.
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn install_packages(missing: &[Need]) -> Result<(), String> {
    if !cargo::exists("apt-get") {
        return Err("there is no apt-get here: install what is listed below by this system's means".to_owned());
    }
    cargo::run(&mut apt_get(&["update"]))?;
    let mut words = vec!["install", "-y", "--no-install-recommends"];
    words.extend(packages(missing));
    cargo::run(&mut apt_get(&words))
}

/// apt-get as root, by sudo when we are not.
fn apt_get(words: &[&str]) -> Command {
    let is_root = cargo::answer("id", &["-u"]).is_some_and(|id| id == "0");
    let mut command = Command::new(if is_root { "apt-get" } else { "sudo" });
    if !is_root {
        command.arg("apt-get");
    }
    command.args(words).arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}
