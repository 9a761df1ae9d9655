//! One emulator process.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{Board, Error};

/// The emulator's program name.
pub const QEMU: &str = "qemu-system-arm";
/// Debian's package that holds it.
pub const QEMU_PACKAGE: &str = "qemu-system-arm";

/// More output than this is a program that has lost its way.
const MOST_OUTPUT: usize = 256 << 20;
/// How often a running emulator is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// What to run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The board to emulate.
    pub board: &'static Board,
    /// The firmware image.
    pub elf: &'a Path,
    /// The counting plugin, if instructions are to be counted. It makes the run about twice as long.
    pub plugin: Option<&'a Path>,
    /// When to give up.
    pub timeout: Duration,
}

/// What an emulator run left behind.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// What the firmware printed.
    pub stdout: String,
    /// What the emulator and the plugin printed.
    pub stderr: String,
    /// The firmware's exit code; none when a signal ended the emulator.
    pub code: Option<i32>,
    /// How long it took on this host. Says nothing of the emulated part.
    pub elapsed: Duration,
}

/// Runs a firmware image to its end.
///
/// # Errors
/// When the emulator cannot be started, or the time or the output is over its limit. A failing
/// exit code is not an error here.
pub fn launch(what: &Launch<'_>) -> Result<Output, Error> {
    let started = Instant::now();
    let mut child = command(what).spawn().map_err(|why| {
        Error::new(format!("cannot start {QEMU}: {why}")).help(format!("install it: apt-get install {QEMU_PACKAGE}"))
    })?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, started, what.timeout);
    let stdout = finish(stdout);
    let stderr = finish(stderr);
    let code = status.map_err(|why| why.at(what.elf).help(last_words(&stdout, &stderr)))?;
    if stdout.len() >= MOST_OUTPUT {
        return Err(Error::new(format!("printed more than {MOST_OUTPUT} bytes")).at(what.elf));
    }
    Ok(Output { stdout, stderr, code, elapsed: started.elapsed() })
}

fn command(what: &Launch<'_>) -> Command {
    let mut command = Command::new(QEMU);
    command
        .args(["-machine", what.board.name, "-nographic", "-monitor", "none", "-serial", "none"])
        .args(["-semihosting-config", "enable=on,target=native"])
        .arg("-kernel")
        .arg(what.elf)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(plugin) = what.plugin {
        command.arg("-plugin").arg(plugin);
    }
    command
}

/// Waits for the end, or makes one when the time is over.
fn wait(child: &mut Child, started: Instant, timeout: Duration) -> Result<Option<i32>, Error> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.code()),
            Ok(None) if started.elapsed() < timeout => thread::sleep(GLANCE),
            Ok(None) => {
                stop(child);
                return Err(Error::new(format!(
                    "the firmware did not end within {} s (hung, or the limit is too low)",
                    timeout.as_secs()
                )));
            }
            Err(why) => {
                stop(child);
                return Err(Error::new(format!("lost {QEMU}: {why}")));
            }
        }
    }
}

fn stop(child: &mut Child) {
    // Both fail only when the child is gone already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a pipe in a thread of its own, so that neither of two can fill up and stop the child.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    let mut pipe = pipe?.take(MOST_OUTPUT as u64);
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks ends the output there; the report check misses the rest.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    }))
}

fn finish(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|thread| thread.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of both outputs, for messages.
pub(crate) fn last_words(stdout: &str, stderr: &str) -> String {
    let tail = |text: &str| {
        let lines: Vec<_> = text.lines().rev().take(3).map(crate::line::shorten).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    };
    format!("its last lines were: `{}`; the emulator's: `{}`", tail(stdout), tail(stderr))
}
