//! End-to-end tests of the workspace; this library holds what several of them share.
#![forbid(unsafe_code)]

pub mod faults;
pub mod generated;
