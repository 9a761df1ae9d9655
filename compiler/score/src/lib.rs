//! Runs a compiled flow model on a host, and says how good its samples are.
//!
//! [`engine`] runs a graph (through the interpreter) or a plan (through the executor) on many samples over threads,
//! [`generate`] draws pictures from seeds, and [`Scorer`] compares them with reference statistics: Frechet distance on
//! the features of one network, precision and recall on them, class accuracy by another network, PSNR between two sets
//! drawn from the same noise. No result depends on the number of threads.
#![forbid(unsafe_code)]

pub mod engine;
mod error;
mod fidelity;
mod frechet;
mod generate;
mod interval;
pub mod layout;
mod manifold;
pub mod npy;
pub mod npz;
mod parallel;
mod program;
mod reference;
mod scorer;

pub use engine::{Engine, Feed, Outcome, Worker};
pub use error::ScoreError;
pub use fidelity::{Fidelity, fidelity, psnr_db, snr_db};
pub use frechet::{Gaussian, frechet};
pub use generate::{Pictures, generate, label_count};
pub use interval::{Interval, interval};
pub use manifold::{NEIGHBOUR, PrecisionRecall, precision_recall};
pub use parallel::{all_threads, map_samples};
pub use program::{HostNets, ProgramEngine, calibrations};
pub use reference::Reference;
pub use scorer::{Scorer, Scores, feature_count, features, scored_draws, share_right};

/// Told how many samples are done; called from any thread.
pub type Progress<'a> = &'a (dyn Fn(usize) + Sync);
