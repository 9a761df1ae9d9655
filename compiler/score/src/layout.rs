//! Between the axis order of graphs (`[N, C, H, W]`) and that of memory on the device (`[N, H, W, C]`).
//!
//! Only images differ: tokens `[N, T, C]` and vectors `[N, K]` have their channels last in both.

/// Channels and pixels of an image, or `None` when both orders are the same.
fn planes(dims: &[usize]) -> Option<(usize, usize)> {
    let &[_, channels, height, width] = dims else { return None };
    (channels > 1 && height * width > 1).then_some((channels, height * width))
}

/// Moves the channels of images from axis 1 to the end.
///
/// ```
/// use flowlet_score::layout::channels_last;
/// assert_eq!(channels_last(&[1, 2, 1, 3], &[1, 2, 3, 10, 20, 30]), [1, 10, 2, 20, 3, 30]);
/// ```
pub fn channels_last<T: Copy>(dims: &[usize], values: &[T]) -> Vec<T> {
    permute(dims, values, |channels, pixels, i| (i % channels) * pixels + i / channels)
}

/// Moves the channels of images from the end to axis 1; `dims` are in graph order.
pub fn channels_first<T: Copy>(dims: &[usize], values: &[T]) -> Vec<T> {
    permute(dims, values, |channels, pixels, i| (i % pixels) * channels + i / pixels)
}

fn permute<T: Copy>(dims: &[usize], values: &[T], source: impl Fn(usize, usize, usize) -> usize) -> Vec<T> {
    let Some((channels, pixels)) = planes(dims) else { return values.to_vec() };
    let sample = channels * pixels;
    values
        .chunks_exact(sample)
        .flat_map(|one| (0..sample).map(|i| one[source(channels, pixels, i)]).collect::<Vec<T>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_undo_each_other() {
        let dims = [2, 3, 2, 2];
        let values: Vec<usize> = (0..24).collect();
        let moved = channels_last(&dims, &values);
        assert_eq!(&moved[..6], [0, 4, 8, 1, 5, 9]);
        assert_eq!(channels_first(&dims, &moved), values);
        for same in [&[4, 6][..], &[1, 6, 4]] {
            assert_eq!(channels_last(same, &values), values);
            assert_eq!(channels_first(same, &values), values);
        }
    }
}
