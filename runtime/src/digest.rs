//! SHA-256 over outputs: the number that two machines compare.

use crate::executor::Executor;
use crate::plan::Port;
use crate::port;
use core::fmt;
use sha2::{Digest as _, Sha256};

/// Collects the outputs of runs, in the order of the seeds and labels that the reader lists beside the digest.
#[derive(Clone, Debug, Default)]
pub struct Digester(Sha256);

impl Digester {
    /// Nothing collected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every output port of a finished run, in port order.
    pub fn add(&mut self, model: &Executor<'_, '_>) {
        for output in model.plan().outputs {
            self.add_port(model.arena(), output);
        }
    }

    /// Adds one output port: its elements in NHWC order, little-endian; nothing if it is outside the arena.
    pub fn add_port(&mut self, arena: &[i8], output: &Port<'_>) {
        if let Ok(pixels) = port::pixels(arena, &output.slot) {
            pixels.for_each(|pixel| self.add_bytes(pixel));
        }
    }

    /// Adds bytes that were already copied out of a port in NHWC order.
    pub fn add_bytes(&mut self, output: &[i8]) {
        for &byte in output {
            self.0.update([byte as u8]);
        }
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// A SHA-256 digest; displays as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
