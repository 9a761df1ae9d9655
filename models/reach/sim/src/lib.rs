//! A planar arm that brings a peg to a goal around a post, where left and right are equally good: scenes from seeds,
//! physics (rapier), a scripted expert, demonstrations, and the success of flowlet's policies in closed loop.
//!
//! Everything is a function of seeds.
#![forbid(unsafe_code)]

pub mod arm;
pub mod camera;
pub mod demos;
pub mod episode;
pub mod expert;
pub mod kinematics;
pub mod picture;
pub mod policy;
pub mod rng;
pub mod scene;
pub mod score;
