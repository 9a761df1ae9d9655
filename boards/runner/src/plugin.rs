//! Compiles the counting plugin with the system's C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::launch::{QEMU, QEMU_PACKAGE};

/// The plugin's source, inside this crate so that it is where the crate is.
const SOURCE: &str = include_str!("../icount.c");

/// Compiles the plugin into `folder`, unless it is there and current, and returns its path.
///
/// # Errors
/// When there is no C compiler or no emulator, or the compiler refuses.
pub fn build(folder: &Path) -> Result<PathBuf, Error> {
    let interface = interface(&qemu_version()?);
    let source = folder.join("icount.c");
    let library = folder.join(format!("libicount-{interface}.so"));
    if library.exists() && fs::read_to_string(&source).is_ok_and(|known| known == SOURCE) {
        return Ok(library);
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&source, SOURCE))
        .map_err(|why| Error::new(format!("cannot write {}: {why}", source.display())))?;
    let answer = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden"])
        .arg(format!("-DQEMU_PLUGIN_VERSION={interface}"))
        .arg("-o")
        .arg(&library)
        .arg(&source)
        .output()
        .map_err(|why| {
            Error::new(format!("cannot start the C compiler `cc`: {why}"))
                .help("install it: apt-get install gcc libc6-dev")
        })?;
    if answer.status.success() {
        return Ok(library);
    }
    // So that the next call does not take a library of an older source for this one.
    let _ = fs::remove_file(&source);
    Err(Error::new(format!("`cc` refused the counting plugin:\n{}", String::from_utf8_lossy(&answer.stderr)))
        .at(&source))
}

/// The emulator's version line.
///
/// # Errors
/// When it cannot be started.
pub fn qemu_version() -> Result<String, Error> {
    let answer = Command::new(QEMU).arg("--version").output().map_err(|why| {
        Error::new(format!("cannot start {QEMU}: {why}")).help(format!("install it: apt-get install {QEMU_PACKAGE}"))
    })?;
    let text = String::from_utf8_lossy(&answer.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The version of the plugin interface that this emulator takes: see the head of `icount.c`.
fn interface(version_line: &str) -> u32 {
    let numbers = version_line.split_whitespace().find_map(|word| {
        let (major, rest) = word.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    match numbers {
        Some(version) if version >= (9, 1) => 3,
        Some(version) if version >= (9, 0) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces() {
        assert_eq!(interface("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)"), 1);
        assert_eq!(interface("QEMU emulator version 9.0.2"), 2);
        assert_eq!(interface("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), 3);
        assert_eq!(interface("what?"), 1);
    }
}
