//! What every board program shares, and the only place in `boards/` with `unsafe` code.
//!
//! - [`report`]: one line of `key=value` pairs a fact, printed over semihosting. No heap and no
//!   `core::fmt`, whose code would be larger than some models.
//! - [`stack`]: paints the free stack, then says how deep a call went.
//! - [`count`]: marker instructions between which an emulator plugin counts executed instructions.
//! - [`semihosting`]: the four calls that the above need.
//! - A panic handler that prints where it happened and ends the run with exit code 101.
//!
//! A program is `#![no_std] #![no_main]`, marks its main function with [`entry`] and ends with
//! [`exit`].
#![no_std]

pub mod count;
mod panicked;
pub mod report;
pub mod semihosting;
pub mod stack;

pub use cortex_m_rt::entry;
pub use report::Line;
pub use semihosting::exit;
