//! The inner loop of matrix products.

use super::{LANES, Lanes};

/// `acc[m][n] += sum over k of rows[m][k] * panels[n][k]`, with panels as `[k][LANES]`.
///
/// # Panics
/// When rows are not equally long or a panel is shorter than they need.
#[inline(always)]
pub fn accumulate<L: Lanes, const M: usize, const N: usize>(
    lanes: L,
    rows: [&[f32]; M],
    panels: [&[f32]; N],
    acc: &mut [[L::V; N]; M],
) {
    let depth = rows.first().map_or(0, |row| row.len());
    for row in &rows {
        assert!(row.len() == depth, "rows of different lengths");
    }
    for panel in &panels {
        assert!(panel.len() >= depth * LANES, "a panel that is too short");
    }
    let rows = rows.map(<[f32]>::as_ptr);
    let panels = panels.map(<[f32]>::as_ptr);
    for k in 0..depth {
        let mut weights = [lanes.splat(0.0); N];
        for n in 0..N {
            // SAFETY: a panel has `depth` times sixteen numbers.
            weights[n] = lanes.load(unsafe { &*panels[n].add(k * LANES).cast::<[f32; LANES]>() });
        }
        for m in 0..M {
            // SAFETY: a row has `depth` numbers.
            let x = lanes.splat(unsafe { *rows[m].add(k) });
            for n in 0..N {
                acc[m][n] = lanes.fma(x, weights[n], acc[m][n]);
            }
        }
    }
}
