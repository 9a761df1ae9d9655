//! Random numbers of scenes and demonstrations: the same on every machine and for every version of every crate.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream of its own for each pair of numbers.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Rng(seed);
        rng.0 = rng.word() ^ stream.wrapping_mul(0xD134_2543_DE82_EF95);
        rng
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True half of the time.
    pub fn coin(&mut self) -> bool {
        self.word() >> 63 == 1
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn moments_of_a_million_draws() {
        let mut rng = Rng::new(1, 2);
        let count = 1_000_000;
        let (mut uniform, mut normal, mut square) = (0.0, 0.0, 0.0);
        for _ in 0..count {
            uniform += rng.unit();
            let x = rng.normal();
            normal += x;
            square += x * x;
        }
        let n = f64::from(count);
        assert!((uniform / n - 0.5).abs() < 2e-3);
        assert!((normal / n).abs() < 5e-3);
        assert!((square / n - 1.0).abs() < 7e-3);
    }

    #[test]
    fn streams_differ() {
        assert_ne!(Rng::new(1, 0).unit(), Rng::new(1, 1).unit());
        assert_ne!(Rng::new(0, 1).unit(), Rng::new(1, 1).unit());
        assert_eq!(Rng::new(3, 4).unit(), Rng::new(3, 4).unit());
    }
}
