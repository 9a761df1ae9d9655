//! Runs one-step flow models as static integer graphs, without heap, the same bits on hosts and microcontrollers.
//!
//! A model comes in one of two forms of one [`plan::Plan`]. Generated code calls the [`kernels`] directly, so that
//! the linker drops every kernel that the model does not use, and needs from this crate an [`Arena`] and the [`port`]
//! functions. The [`Executor`] interprets the same plan, on hosts and for models that arrive after the firmware.
//! Both give the same bytes.
//!
//! Nothing here allocates, and a [`plan::CheckedPlan`] cannot fail once it runs: errors come only from the edges, where
//! a caller gives memory, names, labels and numbers.
//!
//! # Features
//! - `std`: on hosts, asks the processor for its instructions at run time, and [`Threads`]; the bits are the same.
//! - `digest`: [`Digest`], SHA-256 over outputs (still without std).
#![deny(clippy::wildcard_enum_match_arm)]
#![no_std]
#![forbid(unsafe_code)]
#[cfg(test)]
extern crate std;

pub use flowlet_kernels as kernels;
pub use flowlet_plan as plan;

#[cfg(feature = "std")]
pub use flowlet_kernels::Threads;

mod arena;
#[cfg(feature = "digest")]
mod digest;
mod error;
mod executor;
pub mod port;
pub mod program;

pub use arena::{ARENA_ALIGNMENT, Arena};
#[cfg(feature = "digest")]
pub use digest::{Digest, Digester};
pub use error::{Kind, Name, RunError};
pub use executor::{Executor, Key, MAX_INDICES, Progress};
