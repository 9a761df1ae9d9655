//! Parts of vectors, at the ends of rows.

use flowlet_kernels::float::{LANES, Lanes};

/// The lanes of `v` to the front of `to`, of which fewer than [`LANES`] may be left.
#[inline(always)]
pub(crate) fn store_some<L: Lanes>(lanes: L, v: L::V, to: &mut [f32]) {
    if let Some(whole) = to.first_chunk_mut::<LANES>() {
        return lanes.store(v, whole);
    }
    let mut part = [0.0; LANES];
    lanes.store(v, &mut part);
    to.copy_from_slice(&part[..to.len()]);
}

/// Sixteen numbers from the front of `from`, zeros where fewer are left.
#[inline(always)]
pub(crate) fn load_some<L: Lanes>(lanes: L, from: &[f32]) -> L::V {
    if let Some(whole) = from.first_chunk::<LANES>() {
        return lanes.load(whole);
    }
    let mut part = [0.0; LANES];
    part[..from.len()].copy_from_slice(from);
    lanes.load(&part)
}

/// The sum of all lanes.
#[inline(always)]
pub(crate) fn sum<L: Lanes>(lanes: L, v: L::V) -> f32 {
    let mut part = [0.0; LANES];
    lanes.store(v, &mut part);
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            part[i] += part[i + width];
        }
        width /= 2;
    }
    part[0]
}
