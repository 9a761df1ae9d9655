//! Memory of a run, and which tensors share it.

/// Where an operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A buffer of [`Memory`]; before [`assign`], a tensor.
    Buffer(usize),
    /// A constant of the network.
    Constant(usize),
}

/// What one run after the other works in. Made by [`crate::Network::memory`] for as many threads.
#[derive(Debug)]
pub struct Memory {
    pub(crate) buffers: Vec<Vec<f32>>,
    /// One for each thread.
    pub(crate) scratch: Vec<Vec<f32>>,
    /// Values of the index inputs.
    pub(crate) indices: Vec<usize>,
}

/// What a step may read.
pub(crate) struct View<'v> {
    pub buffers: &'v [Vec<f32>],
    pub constants: &'v [Vec<f32>],
    pub indices: &'v [usize],
}

impl View<'_> {
    /// The numbers of an operand, and what may lie behind them in its buffer.
    #[inline(always)]
    pub fn get(&self, source: &Source) -> &[f32] {
        match source {
            Source::Buffer(i) => &self.buffers[*i],
            Source::Constant(i) => &self.constants[*i],
        }
    }
}

/// The life of a tensor: from the step that writes it to the last that reads it, both included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub elements: usize,
    pub first: usize,
    pub last: usize,
}

/// A buffer for each tensor, and the length of each buffer: those that live at the same time have different ones.
pub(crate) fn assign(lives: &[Life]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| lives[i].first);
    let mut lengths: Vec<usize> = Vec::new();
    let mut busy_until: Vec<usize> = Vec::new();
    let mut places = vec![0; lives.len()];
    for i in order {
        let life = lives[i];
        // The free buffer that fits best: the smallest of those that are long enough, else the longest.
        let free = (0..lengths.len()).filter(|&b| busy_until[b] < life.first);
        let best = free.min_by_key(|&b| (lengths[b] < life.elements, lengths[b].abs_diff(life.elements)));
        let buffer = best.unwrap_or_else(|| {
            lengths.push(0);
            busy_until.push(0);
            lengths.len() - 1
        });
        lengths[buffer] = lengths[buffer].max(life.elements);
        busy_until[buffer] = life.last;
        places[i] = buffer;
    }
    (places, lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_that_live_together_have_different_buffers() {
        let life = |elements, first, last| Life { elements, first, last };
        let lives = [life(10, 0, 3), life(20, 1, 2), life(5, 2, 4), life(20, 3, 5), life(8, 5, 5)];
        let (places, lengths) = assign(&lives);
        for (i, a) in lives.iter().enumerate() {
            assert!(lengths[places[i]] >= a.elements);
            for (j, b) in lives.iter().enumerate().skip(i + 1) {
                assert!(places[i] != places[j] || a.last < b.first || b.last < a.first, "{i} and {j}");
            }
        }
        assert!(lengths.len() < lives.len(), "buffers are used again");
    }
}
