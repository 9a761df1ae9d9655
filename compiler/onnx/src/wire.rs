//! Where a protobuf file stops making sense.
//!
//! The decoder says that it failed, and not where. This walks the outer two levels of the file (model and graph) by
//! lengths alone, which is enough to find the byte at which a truncated or overwritten file breaks.

/// A fault and the byte at which it is.
pub(crate) type Fault = (usize, String);

/// Field number of the graph in a model.
const GRAPH_FIELD: u64 = 7;

/// The first fault of the framing, if there is one.
pub(crate) fn first_fault(bytes: &[u8]) -> Option<Fault> {
    walk(bytes, 0, true).err()
}

fn walk(bytes: &[u8], base: usize, model: bool) -> Result<(), Fault> {
    let mut at = 0;
    while at < bytes.len() {
        let start = base + at;
        let key = varint(bytes, &mut at).ok_or((start, "a field has no end".to_owned()))?;
        let length = match key & 7 {
            0 => {
                varint(bytes, &mut at).ok_or((start, "a number has no end".to_owned()))?;
                0
            }
            1 => 8,
            2 => varint(bytes, &mut at).ok_or((start, "a length has no end".to_owned()))?,
            5 => 4,
            other => return Err((start, format!("a field of the unknown kind {other} begins"))),
        };
        let rest = bytes.len() - at;
        let Some(length) = usize::try_from(length).ok().filter(|&l| l <= rest) else {
            return Err((start, format!("a field announces {length} bytes where {rest} remain")));
        };
        if model && key == (GRAPH_FIELD << 3 | 2) {
            walk(&bytes[at..at + length], base + at, false)?;
        }
        at += length;
    }
    Ok(())
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::first_fault;

    #[test]
    fn well_framed_bytes_have_no_fault() {
        assert_eq!(first_fault(&[]), None);
        assert_eq!(first_fault(&[0x08, 0x96, 0x01, 0x12, 0x02, b'a', b'b']), None);
    }

    #[test]
    fn a_long_length_is_found_where_its_field_begins() {
        let (at, message) = first_fault(&[0x08, 0x01, 0x12, 0x05, b'a']).unwrap();
        assert_eq!(at, 2);
        assert!(message.contains("5 bytes where 1 remain"), "{message}");
    }

    #[test]
    fn a_fault_inside_the_graph_counts_from_the_start_of_the_file() {
        let (at, _) = first_fault(&[0x08, 0x01, 0x3a, 0x02, 0x0a, 0x09]).unwrap();
        assert_eq!(at, 4);
    }
}
