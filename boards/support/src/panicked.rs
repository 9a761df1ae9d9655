//! A panic ends the run with a failing exit code.

use core::panic::PanicInfo;

use crate::{Line, exit};

/// Exit code of a board program that panicked; what a panicking host program exits with too.
const PANICKED: u8 = 101;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    flowlet_board_panicked(info)
}

/// Prints the place, not the message, whose formatting would drag in code that no model needs.
///
/// Its name is not mangled and it is never inlined: an image that holds this symbol can panic,
/// and the runner's panic check looks for it.
#[unsafe(no_mangle)]
#[inline(never)]
fn flowlet_board_panicked(info: &PanicInfo<'_>) -> ! {
    if let Some(place) = info.location() {
        Line::new("panic").text("file", place.file()).number("line", place.line()).end();
    }
    exit(PANICKED)
}
