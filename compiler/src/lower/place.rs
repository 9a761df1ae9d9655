//! Which memory of the part holds the arena, and which the weights.
//!
//! A slot is an offset in one slice, so an arena lies in one memory: the fastest that holds it. Constants are slices of their
//! own; when the first flash is too small for all, those whose bytes are read least often in a pass lie in another, which may
//! be a serial one.

use super::draft::{Draft, Work};
use super::weights::Blob;
use super::{LARGEST, LowerError, Lowered, Region, constants_of};
use crate::target::{Memory, MemoryKind, Target};

/// Weights in one memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsPart {
    /// Name of the memory.
    pub memory: String,
    /// Its linker section.
    pub section: Option<String>,
    /// First byte of the weights that it holds.
    pub offset: usize,
    /// How many.
    pub len: usize,
}

/// Constants that go to another memory, by number, and the first byte of them in the weights.
pub(super) struct Outside {
    pub(super) numbers: Vec<usize>,
    pub(super) border: usize,
}

/// What does not fit the first flash, read least often first; `None` if everything fits or there is no other.
pub(super) fn outside(draft: &Draft, target: &Target) -> Option<Outside> {
    let mut flash = target.memories_of(MemoryKind::Flash);
    let first = flash.next()?.bytes;
    flash.next()?;
    if draft.blob.bytes.len() <= first {
        return None;
    }
    let mut reads: Vec<u64> = vec![0; draft.blob.names.len()];
    let uses = draft.ops.iter().filter_map(|op| match &op.work {
        Work::Kernel(kernel) => Some((kernel, op)),
        Work::Join(_) => None,
    });
    for (kernel, op) in uses {
        let pixels = draft.tensors[op.write].shape.pixels() as u64;
        for section in kernel.constants() {
            let found = draft.blob.names.iter().position(|(_, s)| *s == section);
            found.into_iter().for_each(|i| reads[i] += pixels);
        }
    }
    // The larger of equally busy constants first: fewer of them have to leave.
    let mut order: Vec<usize> = (0..reads.len()).collect();
    order.sort_by_key(|&i| (reads[i], std::cmp::Reverse(draft.blob.names[i].1.len), i));
    let size = |inside: &[bool]| {
        let kept = draft.blob.names.iter().zip(inside).filter(|(_, inside)| **inside);
        Blob::laid_out(kept.map(|((_, section), _)| section.len))
    };
    let mut inside = vec![true; reads.len()];
    let mut numbers = Vec::new();
    for i in order {
        if size(&inside) <= first {
            break;
        }
        inside[i] = false;
        numbers.push(i);
    }
    Some(Outside { numbers, border: size(&inside) })
}

/// Names the memories of a lowered model that works in an arena of so many bytes.
///
/// # Errors
/// What no memory holds, with all sizes.
pub(super) fn place(lowered: &mut Lowered, arena_bytes: usize, border: Option<usize>) -> Result<(), LowerError> {
    if lowered.target.memories.is_empty() {
        return Ok(());
    }
    let ram = lowered.target.memories_of(MemoryKind::Ram).find(|m| m.bytes >= arena_bytes);
    let arena = ram.ok_or_else(|| refused(lowered, MemoryKind::Ram, arena_bytes))?.name.to_string();
    let (first, rest) =
        (border.unwrap_or(lowered.weights.len()), lowered.weights.len() - border.unwrap_or(lowered.weights.len()));
    let part = |memory: &Memory, offset: usize, len: usize| WeightsPart {
        memory: memory.name.to_string(),
        section: memory.section.as_ref().map(ToString::to_string),
        offset,
        len,
    };
    let target = lowered.target.clone();
    let too_large = || refused(lowered, MemoryKind::Flash, lowered.weights.len());
    let mut flash = target.memories_of(MemoryKind::Flash);
    let mut parts = Vec::new();
    if border.is_none() {
        let whole = flash.find(|m| m.bytes >= first).ok_or_else(too_large)?;
        parts.push(part(whole, 0, first));
    } else {
        let inner = flash.next().filter(|m| m.bytes >= first).ok_or_else(too_large)?;
        let outer = flash.find(|m| m.bytes >= rest).ok_or_else(too_large)?;
        parts.extend([part(inner, 0, first), part(outer, first, rest)]);
    }
    let usual = target.memories_of(MemoryKind::Flash).next().map(|m| m.name.as_ref());
    if let Some(part) = parts.first().filter(|p| usual != Some(p.memory.as_str())) {
        lowered.target.weights_section = part.section.clone().map(Into::into);
    }
    (lowered.arena_memory, lowered.weights_parts) = (Some(arena), parts);
    Ok(())
}

fn refused(lowered: &Lowered, kind: MemoryKind, need_bytes: usize) -> LowerError {
    let (region, mut largest) = match kind {
        MemoryKind::Ram => (Region::Ram, lowered.memory.fullest()),
        MemoryKind::Flash => (Region::Flash, constants_of(lowered)),
    };
    largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    largest.truncate(LARGEST);
    let memories = lowered.target.memories_of(kind).map(|m| (m.name.to_string(), m.bytes)).collect();
    LowerError::Memories { region, target: lowered.target.name.to_string(), need_bytes, memories, largest }
}
