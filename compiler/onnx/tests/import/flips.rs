//! Damages a real model at random: whatever happens, it is an error or a graph, and never a panic.

use crate::models::path;
use flowlet_onnx::{ImportOptions, import};
use prost::Message;
use std::time::{Duration, Instant};
use tract_onnx::pb::ModelProto;

/// Upper bound for the whole test.
const TIME: Duration = Duration::from_secs(8);

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Positions outside of the weights: flips there reach the importer's code and not only its numbers.
fn structure(bytes: &[u8]) -> Vec<usize> {
    let proto = ModelProto::decode(bytes).unwrap();
    let mut weight = vec![false; bytes.len()];
    for tensor in proto.graph.unwrap().initializer.iter().filter(|t| t.raw_data.len() > 64) {
        let at = bytes.windows(64).position(|w| *w == tensor.raw_data[..64]).unwrap();
        weight[at..at + tensor.raw_data.len()].fill(true);
    }
    (0..bytes.len()).filter(|&at| !weight[at]).collect()
}

#[test]
fn no_byte_flip_panics() {
    let original = std::fs::read(path("fashion-tiny/fashion-tiny.onnx")).unwrap();
    let targets = structure(&original);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..4000 {
        if start.elapsed() > TIME {
            break;
        }
        let mut bytes = original.clone();
        for _ in 0..=random.next(3) {
            let at = if round % 8 == 0 { random.next(bytes.len()) } else { targets[random.next(targets.len())] };
            bytes[at] = match random.next(3) {
                0 => bytes[at] ^ (1 << random.next(8)),
                1 => random.next(256) as u8,
                _ => [0, 1, 0x7f, 0x80, 0xff][random.next(5)],
            };
        }
        if round % 16 == 1 {
            bytes.truncate(random.next(bytes.len()));
        }
        match import(&bytes, &ImportOptions::default()) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{accepted} accepted, {refused} refused in {:?}", start.elapsed());
    assert!(refused > 20);
}
