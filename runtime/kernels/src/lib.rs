//! Integer kernels with one stated rounding: the same bits on hosts and microcontrollers.
//!
//! Each operator has a folder with its entry point `run`, the textbook `reference` that defines its result, and a
//! portable `scalar` kernel that must equal it bit for bit. The rules that they share are defined once:
//!
//! | rule | module |
//! |---|---|
//! | accumulator to s8 | [`requant`] |
//! | sum of two s8 tensors | [`add`] |
//! | real numbers at the ports | [`port`] |
//! | unary functions | [`table`] |
//! | norms at run time | [`norm`] |
//! | softmax | [`softmax`] |
//! | Gaussian noise from a seed | [`noise`] |
//! | f32 arithmetic of programs | [`carry`] |
//!
//! Tensors are NHWC with batch 1 and live in one arena of bytes. This is the only crate of the runtime with `unsafe`
//! code: every entry point first asserts [`plan::Step::fits`], the bound that its raw pointers rely on.
#![deny(clippy::wildcard_enum_match_arm)]
#![no_std]
#[cfg(any(test, feature = "std"))]
extern crate std;

pub use flowlet_plan as plan;

pub use isa::has_feature;
#[cfg(feature = "std")]
pub use threads::{Pass, Threads};

#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
#[macro_use]
mod arm_mve;

#[macro_use]
mod entry;

pub mod add;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod avx2;
mod bytes;
pub mod carry;
pub mod conv;
#[cfg(all(feature = "arm_dsp", target_arch = "arm"))]
mod dsp;
#[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod elements;
#[cfg(feature = "std")]
pub mod float;
pub mod isa;
pub mod map;
pub mod matmul;
pub mod mul;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
pub mod noise;
pub mod norm;
pub mod pool;
pub mod port;
pub mod requant;
pub mod round;
pub mod shuffle;
pub mod softmax;
pub mod step;
pub mod table;
#[cfg(feature = "std")]
mod threads;
pub mod transpose;
