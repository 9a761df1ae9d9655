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

/// Collects constants; equal ones are stored once. Those that lie in another memory follow the rest.
#[derive(Default)]
pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    /// Numbers of the constants that lie in the other memory, and where it begins in the blob.
    outside: Option<(Vec<usize>, usize)>,
    outer: Vec<u8>,
    /// What each section holds, in order of its offset.
    pub(super) names: Vec<(String, Section)>,
    known: HashMap<Vec<u8>, Section>,
}

impl Blob {
    /// The constants of a graph that was lowered before, to be extended.
    pub(super) fn of(lowered: &super::Lowered) -> Blob {
        let known = lowered.constants.iter().map(|(_, section)| (section.of(&lowered.weights).to_vec(), *section));
        let (bytes, names) = (lowered.weights.clone(), lowered.constants.clone());
        Blob { bytes, names, known: known.collect(), ..Blob::default() }
    }

    /// A blob whose constants of these numbers, in the order in which they come, begin at `border`, which is past the rest.
    pub(super) fn split(outside: Vec<usize>, border: usize) -> Blob {
        Blob { outside: Some((outside, border)), ..Blob::default() }
    }

    /// Bytes of constants of these lengths, one after the other, up to where another could begin.
    pub(super) fn laid_out(lengths: impl Iterator<Item = usize>) -> usize {
        lengths.fold(0, |end, len| (end + len).next_multiple_of(ALIGNMENT))
    }

    /// Appends what lies in the other memory.
    pub(super) fn join(&mut self) {
        if let Some((_, border)) = self.outside.take() {
            self.bytes.resize(border, 0);
            self.bytes.append(&mut self.outer);
        }
    }

    /// Stores a constant that is named for people.
    pub(super) fn put(&mut self, name: impl Into<String>, bytes: Vec<u8>) -> Section {
        if let Some(section) = self.known.get(&bytes) {
            return *section;
        }
        let (own, first) = match &self.outside {
            Some((outside, border)) if outside.contains(&self.names.len()) => (&mut self.outer, *border),
            Some(_) | None => (&mut self.bytes, 0),
        };
        own.resize(own.len().next_multiple_of(ALIGNMENT), 0);
        let section = Section { offset: first + own.len(), len: bytes.len() };
        own.extend(&bytes);
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
