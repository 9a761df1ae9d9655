//! Arm semihosting: the host that runs the program also does its input and output.
//!
//! A call is `bkpt 0xab` with the operation in `r0` and its argument in `r1`; the answer is in
//! `r0`. Without a debugger or an emulator behind it the breakpoint is a hard fault.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

const SYS_OPEN: usize = 0x01;
const SYS_WRITE: usize = 0x05;
const SYS_EXIT_EXTENDED: usize = 0x20;

/// The special file name of the console, and the mode (`w`) that makes it standard output.
const CONSOLE: &[u8; 4] = b":tt\0";
const MODE_WRITE: usize = 4;

/// `ADP_Stopped_ApplicationExit`: the program ended by itself.
const APPLICATION_EXIT: usize = 0x20026;

/// The handle of standard output, or [`CLOSED`] before the first write.
static STDOUT: AtomicUsize = AtomicUsize::new(CLOSED);
const CLOSED: usize = usize::MAX;

/// # Safety
/// `argument` must be what `operation` asks for: here always the address of a block of words
/// that outlives the call and whose pointers are valid for the lengths beside them.
unsafe fn call(operation: usize, argument: *const usize) -> usize {
    let answer;
    // SAFETY: the host reads the block that the caller vouches for and changes only r0; the asm
    // block is a barrier for memory, so the bytes behind the pointers are written before it.
    unsafe {
        asm!("bkpt 0xab", inlateout("r0") operation => answer, in("r1") argument, options(nostack, preserves_flags));
    }
    answer
}

/// Writes bytes to the host's standard output. A host that refuses is not an error here: the
/// runner misses the line and says so.
pub fn write(bytes: &[u8]) {
    let mut handle = STDOUT.load(Ordering::Relaxed);
    if handle == CLOSED {
        let block = [CONSOLE.as_ptr() as usize, MODE_WRITE, CONSOLE.len() - 1];
        // SAFETY: SYS_OPEN reads name, mode and length; the name is static and ends in a zero.
        handle = unsafe { call(SYS_OPEN, block.as_ptr()) };
        STDOUT.store(handle, Ordering::Relaxed);
    }
    let block = [handle, bytes.as_ptr() as usize, bytes.len()];
    // SAFETY: SYS_WRITE reads handle, pointer and length; pointer and length are one live slice.
    unsafe { call(SYS_WRITE, block.as_ptr()) };
}

/// Ends the run; the emulator exits with `code`.
pub fn exit(code: u8) -> ! {
    let block = [APPLICATION_EXIT, usize::from(code)];
    loop {
        // SAFETY: SYS_EXIT_EXTENDED reads a reason and a code. A debugger may let the program go
        // on after it, hence the loop.
        unsafe { call(SYS_EXIT_EXTENDED, block.as_ptr()) };
    }
}
