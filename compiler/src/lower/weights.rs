//! One blob for every constant of a plan.

use std::collections::HashMap;

/// Alignment in bytes of every constant.
const ALIGNMENT: usize = 16;

/// A range of the blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// First byte.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Section {
    /// The bytes of this section in its blob; empty if the blob is another one.
    pub fn of(self, blob: &[u8]) -> &[u8] {
        blob.get(self.offset..self.offset + self.len).unwrap_or(&[])
    }
}

/// Collects constants; equal ones are stored once.
#[derive(Default)]
pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    /// What each section holds, in order of its offset.
    pub(super) names: Vec<(String, Section)>,
    known: HashMap<Vec<u8>, Section>,
}

impl Blob {
    /// The constants of a graph that was lowered before, to be extended.
    pub(super) fn of(lowered: &super::Lowered) -> Blob {
        let known = lowered.constants.iter().map(|(_, section)| (section.of(&lowered.weights).to_vec(), *section));
        Blob { bytes: lowered.weights.clone(), names: lowered.constants.clone(), known: known.collect() }
    }

    /// Stores a constant that is named for people.
    pub(super) fn put(&mut self, name: impl Into<String>, bytes: Vec<u8>) -> Section {
        if let Some(section) = self.known.get(&bytes) {
            return *section;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let section = Section { offset: self.bytes.len(), len: bytes.len() };
        self.bytes.extend(&bytes);
        self.names.push((name.into(), section));
        self.known.insert(bytes, section);
        section
    }
}

/// Bytes of 8-bit constants.
pub(super) fn bytes(values: &[i8]) -> Vec<u8> {
    values.iter().map(|&v| v as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_constants_are_stored_once_and_aligned() {
        let mut blob = Blob::default();
        let first = blob.put("a", vec![1, 2, 3]);
        let second = blob.put("b", vec![4]);
        assert_eq!(blob.put("c", vec![1, 2, 3]), first);
        assert_eq!((second.offset, blob.bytes.len()), (16, 17));
        assert_eq!(first.of(&blob.bytes), [1, 2, 3]);
    }
}
