//! End-to-end tests of the workspace; this library holds what several of them share.
#![forbid(unsafe_code)]

pub mod faults;
pub mod generated;
pub mod models;

/// The example of README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
