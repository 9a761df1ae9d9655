//! The same arrays, scored here and by other people's code.
//!
//! The files of `fid/` are random features: 80 generated rows of 16, and 96 real ones whose mean and covariance NumPy
//! 2.4.6 wrote, plain and compressed. The distances are those of `calculate_frechet_distance` of pytorch-fid 0.3.0 on f64
//! arrays with `scipy.linalg.sqrtm` of SciPy 1.17.1; precision and recall come from an f64 matrix of all distances.
#![allow(clippy::unwrap_used)]

use flowlet_score::npy::Array;
use flowlet_score::{Gaussian, NEIGHBOUR, Reference, frechet, precision_recall};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

const WIDTH: usize = 16;

/// Of all generated rows, and of the first nine.
const FULL: f64 = 0.054_983_123_082_624_15;
const NINE: f64 = 0.183_323_806_692_854_36;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fid").join(name)
}

fn generated() -> Vec<f32> {
    let array = Array::read(&std::fs::read(file("generated.npy")).unwrap()).unwrap();
    assert_eq!(array.shape, [80, WIDTH]);
    array.to_f32()
}

fn distance(rows: &[f32], reference: &Reference) -> f64 {
    frechet(&Gaussian::fit(rows, WIDTH).unwrap(), reference.gaussian()).unwrap()
}

#[test]
fn the_distance_is_that_of_pytorch_fid() {
    for name in ["reference.npz", "reference_compressed.npz"] {
        let reference = Reference::from_npz(&file(name)).unwrap();
        let found = distance(&generated(), &reference);
        assert!((found - FULL).abs() < 1e-4, "{name}: {found}, pytorch-fid has {FULL}");
        assert!((found - FULL).abs() < 1e-10, "{name}: {found}, no longer to all but the last digits");
    }
}

/// Nine rows of sixteen features have a singular covariance.
#[test]
fn so_is_that_of_fewer_samples_than_features() {
    let reference = Reference::from_npz(&file("reference.npz")).unwrap();
    let found = distance(&generated()[..9 * WIDTH], &reference);
    assert!((found - NINE).abs() < 1e-4, "{found}, pytorch-fid has {NINE}");
}

#[test]
fn precision_and_recall_are_those_of_the_distance_matrix() {
    let reference = Reference::from_npz(&file("reference_compressed.npz")).unwrap();
    assert_eq!(reference.rows().len(), 96 * WIDTH);
    let found = precision_recall(reference.rows(), &generated(), WIDTH, NEIGHBOUR, NonZeroUsize::MIN, &|_| {}).unwrap();
    assert_eq!((found.precision, found.recall, found.count), (0.95, 0.5625, 80));
}

#[test]
fn a_damaged_or_other_archive_is_refused_with_its_name() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = Reference::from_npz(&path).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
        message
    };
    let good = std::fs::read(file("reference_compressed.npz")).unwrap();
    refused("cut.npz", &good[..good.len() / 2]);
    assert!(refused("text.npz", b"no archive").contains("numpy.savez"));
    let mu = Array::f32(&[2], vec![0.0; 2]);
    let only = flowlet_score::npz::write(&[("mean", &mu), ("mu", &mu)]).unwrap();
    let message = refused("other.npz", &only);
    assert!(message.contains("'sigma'") && message.contains("mean, mu"), "{message}");
    let sigma = Array::f32(&[3, 3], vec![0.0; 9]);
    refused("widths.npz", &flowlet_score::npz::write(&[("mu", &mu), ("sigma", &sigma)]).unwrap());
}
