//! Where elements lie: axis 1 is last in memory.

/// The logical axes in the order of memory, outermost first.
pub(crate) fn axes(rank: usize) -> Vec<usize> {
    if rank < 3 { (0..rank).collect() } else { std::iter::once(0).chain(2..rank).chain(std::iter::once(1)).collect() }
}

/// The distance in memory between neighbours along each logical axis.
pub(crate) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; dims.len()];
    let mut stride = 1;
    for axis in axes(dims.len()).into_iter().rev() {
        strides[axis] = stride;
        stride *= dims[axis];
    }
    strides
}

/// Calls `visit` with the place in memory of each element, in ONNX order.
fn places(dims: &[usize], mut visit: impl FnMut(usize)) {
    let strides = strides(dims);
    let count: usize = dims.iter().product();
    let mut index = vec![0; dims.len()];
    let mut place = 0;
    for _ in 0..count {
        visit(place);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            place += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            place -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
}

/// Elements in ONNX order to the order of memory; as many as `dims` says.
pub(crate) fn to_memory<T: Copy>(dims: &[usize], values: &[T], memory: &mut [T]) {
    let flat = dims.len() < 3 || dims[1] == 1 || dims[2..].iter().all(|&d| d == 1);
    if flat {
        memory.copy_from_slice(values);
        return;
    }
    let mut values = values.iter();
    places(dims, |place| {
        if let Some(&v) = values.next() {
            memory[place] = v;
        }
    });
}

/// Elements in the order of memory to ONNX order.
pub(crate) fn from_memory<T: Copy>(dims: &[usize], memory: &[T], values: &mut [T]) {
    let flat = dims.len() < 3 || dims[1] == 1 || dims[2..].iter().all(|&d| d == 1);
    if flat {
        values.copy_from_slice(memory);
        return;
    }
    let mut values = values.iter_mut();
    places(dims, |place| {
        if let Some(v) = values.next() {
            *v = memory[place];
        }
    });
}

/// The strides of an operand seen along the axes of a result that it is broadcast to; 0 where it repeats.
pub(crate) fn broadcast_strides(dims: &[usize], out: &[usize]) -> Vec<usize> {
    let own = strides(dims);
    let lead = out.len() - dims.len();
    (0..out.len()).map(|a| if a < lead || dims[a - lead] == 1 { 0 } else { own[a - lead] }).collect()
}

/// After how many elements of `out` in memory an operand repeats, if its order is that of `out`'s innermost axes.
pub(crate) fn period(dims: &[usize], out: &[usize]) -> Option<usize> {
    let operand = broadcast_strides(dims, out);
    let whole = strides(out);
    let elements: usize = dims.iter().product();
    // Innermost axes agree, outer ones repeat: there is no outer axis inside one that repeats.
    let mut repeats = false;
    for axis in axes(out.len()).into_iter().rev().filter(|&a| out[a] > 1) {
        match (operand[axis], repeats) {
            (0, _) => repeats = true,
            (stride, false) if stride == whole[axis] => {}
            _ => return None,
        }
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_last() {
        let dims = [1, 2, 2, 3];
        let values: Vec<usize> = (0..12).collect();
        let mut memory = [0; 12];
        to_memory(&dims, &values, &mut memory);
        assert_eq!(memory, [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]);
        let mut back = [0; 12];
        from_memory(&dims, &memory, &mut back);
        assert_eq!(back[..], values[..]);
        assert_eq!(strides(&dims), [12, 1, 6, 2]);
    }

    #[test]
    fn periods() {
        assert_eq!(period(&[1, 8, 4, 4], &[1, 8, 4, 4]), Some(128));
        assert_eq!(period(&[1, 8, 1, 1], &[1, 8, 4, 4]), Some(8));
        assert_eq!(period(&[1], &[1, 8, 4, 4]), Some(1));
        assert_eq!(period(&[1, 1, 4, 4], &[1, 8, 4, 4]), None);
        assert_eq!(period(&[8], &[3, 8]), Some(8));
        assert_eq!(period(&[3, 1], &[3, 8]), None);
        assert_eq!(period(&[1, 8, 1, 4], &[1, 8, 4, 4]), Some(32));
        assert_eq!(period(&[4], &[1, 8, 4, 4]), None);
    }
}
