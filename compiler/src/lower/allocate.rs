//! Offsets for blocks whose lifetimes are known: the classic dynamic storage allocation problem, by several greedy
//! orders and a bounded, seeded search between them. The result depends on the input only.

/// Alignment in bytes of every block.
pub(super) const ALIGNMENT: usize = 16;

/// Bytes that are needed from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) bytes: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Block {
    fn steps(&self) -> usize {
        self.last - self.first + 1
    }

    fn meets(&self, other: &Block) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    pub(super) offsets: Vec<usize>,
    pub(super) bytes: usize,
}

/// The bytes that live at the fullest moment: no allocation is smaller.
pub(super) fn peak(blocks: &[Block]) -> usize {
    let live = |at: usize| blocks.iter().filter(|b| b.first <= at && at <= b.last).map(|b| b.bytes).sum();
    blocks.iter().map(|b| live(b.first)).max().unwrap_or(0)
}

/// Places all blocks; `tries` bounds the search after the greedy orders.
pub(super) fn allocate(blocks: &[Block], tries: usize) -> Allocation {
    let mut best = Allocation { offsets: vec![0; blocks.len()], bytes: usize::MAX };
    let mut best_order = Vec::new();
    type Key = fn(&Block) -> (usize, usize);
    let keys: [Key; 5] = [
        |b| (usize::MAX - b.bytes, b.first),
        |b| (usize::MAX - b.steps(), usize::MAX - b.bytes),
        |b| (b.first, usize::MAX - b.bytes),
        |b| (usize::MAX - b.bytes * b.steps(), b.first),
        |b| (usize::MAX - b.last, usize::MAX - b.bytes),
    ];
    for key in keys {
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| (key(&blocks[i]), i));
        for best_fit in [true, false] {
            let found = place(blocks, &order, best_fit);
            if found.bytes < best.bytes {
                (best, best_order) = (found, order.clone());
            }
        }
    }
    let least = peak(blocks);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut current, mut order) = (best.bytes, best_order);
    for _ in 0..tries {
        if best.bytes <= least {
            break;
        }
        let mut changed = order.clone();
        let moved = changed.remove(random.below(blocks.len()));
        changed.insert(random.below(blocks.len()), moved);
        let found = place(blocks, &changed, true);
        if found.bytes <= current {
            (current, order) = (found.bytes, changed);
            if found.bytes < best.bytes {
                best = found;
            }
        }
    }
    best
}

/// Places blocks in this order, each into a gap between those that live at the same time: the tightest that is large
/// enough, or the lowest.
fn place(blocks: &[Block], order: &[usize], best_fit: bool) -> Allocation {
    let mut offsets = vec![0; blocks.len()];
    let mut bytes = 0;
    let mut taken: Vec<(usize, usize)> = Vec::with_capacity(blocks.len());
    for (n, &i) in order.iter().enumerate() {
        let block = &blocks[i];
        taken.clear();
        let alive = order[..n].iter().filter(|&&j| blocks[j].meets(block));
        taken.extend(alive.map(|&j| (offsets[j], offsets[j] + blocks[j].bytes)));
        taken.sort_unstable();
        let (mut at, mut tightest) = (0, None);
        for &(start, end) in &taken {
            if at + block.bytes <= start {
                let gap = start - at;
                if tightest.is_none_or(|(size, _)| gap < size) {
                    tightest = Some((gap, at));
                }
                if !best_fit {
                    break;
                }
            }
            at = at.max(end.next_multiple_of(ALIGNMENT));
        }
        offsets[i] = tightest.map_or(at, |(_, offset)| offset);
        bytes = bytes.max(offsets[i] + block.bytes);
    }
    Allocation { offsets, bytes }
}

/// Xorshift with a fixed seed: the search takes the same way on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(blocks: &[Block], found: &Allocation) {
        for (i, a) in blocks.iter().enumerate() {
            assert_eq!(found.offsets[i] % ALIGNMENT, 0);
            assert!(found.offsets[i] + a.bytes <= found.bytes);
            for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                let apart =
                    found.offsets[i] + a.bytes <= found.offsets[j] || found.offsets[j] + b.bytes <= found.offsets[i];
                assert!(apart || !a.meets(b), "{a:?} and {b:?} at {} and {}", found.offsets[i], found.offsets[j]);
            }
        }
    }

    #[test]
    fn random_blocks_never_overlap_and_stay_between_the_bounds() {
        let mut random = Random(7);
        for _ in 0..300 {
            let n = 1 + random.below(24);
            let blocks: Vec<Block> = (0..n)
                .map(|_| {
                    let first = random.below(20);
                    Block { bytes: 1 + random.below(300), first, last: first + random.below(8) }
                })
                .collect();
            let quick = allocate(&blocks, 0);
            let long = allocate(&blocks, 200);
            check(&blocks, &quick);
            check(&blocks, &long);
            let sum: usize = blocks.iter().map(|b| b.bytes.next_multiple_of(ALIGNMENT)).sum();
            assert!(peak(&blocks) <= long.bytes && long.bytes <= quick.bytes && quick.bytes <= sum);
            assert_eq!(long, allocate(&blocks, 200), "the search is deterministic");
        }
    }

    #[test]
    fn a_chain_of_equal_blocks_needs_two() {
        let blocks: Vec<Block> = (0..10).map(|i| Block { bytes: 64, first: i, last: i + 1 }).collect();
        assert_eq!(allocate(&blocks, 0).bytes, 128);
    }
}
