//! Deterministic random numbers: the same cases on every machine.

/// A linear congruential generator; its high bits are good enough to choose shapes and fill bytes.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 32 bits.
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// A number less than `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }

    /// One of the given; the first type's default if there are none.
    pub fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        from.get(self.below(from.len() as u32) as usize).copied().unwrap_or_default()
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.next() >> 31 > 0
    }

    /// Bytes that are often extreme.
    pub fn fill(&mut self, bytes: &mut [i8]) {
        match self.below(4) {
            0 => bytes.iter_mut().for_each(|b| *b = self.pick(&[-128, 127])),
            1 => bytes.iter_mut().for_each(|b| *b = self.pick(&[-128, -127, -1, 0, 1, 126, 127])),
            _ => bytes.chunks_mut(4).for_each(|word| {
                let random = self.next().to_le_bytes();
                word.iter_mut().zip(random).for_each(|(to, from)| *to = from as i8);
            }),
        }
    }

    /// Weights: as [`Self::fill`], without -128.
    pub fn weights(&mut self, bytes: &mut [u8]) {
        let extreme = self.below(4) == 0;
        for byte in bytes {
            let value = if extreme { self.pick(&[-127, 127]) } else { self.next() as i8 };
            *byte = value.max(-127) as u8;
        }
    }

    /// A zero point, often at a limit.
    pub fn zero_point(&mut self) -> i8 {
        let any = self.next() as i8;
        self.pick(&[-128, 127, 0, any])
    }
}
