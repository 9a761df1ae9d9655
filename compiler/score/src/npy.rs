//! Reads and writes NumPy's `.npy` arrays: f32, f64, i32, i64, u8 and bool; little-endian, C order.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. The bytes are untrusted: every
//! length is checked before anything is allocated. (The crates that read this format bring a parser generator for the
//! one line of its header.)

use std::fmt;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Elements of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// `<f4`
    F32(Vec<f32>),
    /// `<f8`
    F64(Vec<f64>),
    /// `<i8`, and `<i4` widened.
    I64(Vec<i64>),
    /// `|u1`, and `|b1`.
    U8(Vec<u8>),
}

/// An array; by the convention of this project the first axis counts samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Dimensions; their product is the number of elements.
    pub shape: Vec<usize>,
    /// Elements in C order.
    pub elements: Elements,
}

/// Why bytes are not a usable array.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NpyError {
    /// The file does not start as a `.npy` does.
    NotNpy,
    /// The header is cut short or is not what NumPy writes.
    Header(String),
    /// Elements of a type that is not read here.
    Type(String),
    /// The array is stored in Fortran order.
    FortranOrder,
    /// The data are shorter or longer than the header says.
    Length {
        /// Bytes that the header announces.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NpyError::NotNpy => f.write_str("not a .npy file: write it with numpy.save"),
            NpyError::Header(m) => write!(f, "the .npy header is damaged: {m}"),
            NpyError::Type(t) => write!(
                f,
                "elements of type {t} are not read: save it as float32, float64, int32, int64 or uint8, little-endian"
            ),
            NpyError::FortranOrder => f.write_str("the array is in Fortran order: save numpy.ascontiguousarray(x)"),
            NpyError::Length { expected, found } => {
                write!(f, "the file is damaged: its header announces {expected} bytes of data and {found} are there")
            }
        }
    }
}

impl std::error::Error for NpyError {}

impl Array {
    /// An f32 array.
    pub fn f32(shape: &[usize], elements: Vec<f32>) -> Self {
        Array { shape: shape.to_vec(), elements: Elements::F32(elements) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.elements {
            Elements::F32(v) => v.len(),
            Elements::F64(v) => v.len(),
            Elements::I64(v) => v.len(),
            Elements::U8(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.elements {
            Elements::F32(v) => v.clone(),
            Elements::F64(v) => v.iter().map(|&x| x as f32).collect(),
            Elements::I64(v) => v.iter().map(|&x| x as f32).collect(),
            Elements::U8(v) => v.iter().map(|&x| x.into()).collect(),
        }
    }

    /// The elements as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.elements {
            Elements::F32(v) => v.iter().map(|&x| x.into()).collect(),
            Elements::F64(v) => v.clone(),
            Elements::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Elements::U8(v) => v.iter().map(|&x| x.into()).collect(),
        }
    }

    /// The elements as integers; `None` when one has a fraction.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let whole = |x: f64| (x.fract() == 0.0 && x.abs() < 9e15).then_some(x as i64);
        match &self.elements {
            Elements::F32(v) => v.iter().map(|&x| whole(x.into())).collect(),
            Elements::F64(v) => v.iter().map(|&x| whole(x)).collect(),
            Elements::I64(v) => Some(v.clone()),
            Elements::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
        }
    }

    /// Reads the bytes of a `.npy` file.
    ///
    /// # Errors
    /// What is wrong with them, and how to write them so that they are read.
    pub fn read(bytes: &[u8]) -> Result<Self, NpyError> {
        let (header, data) = split(bytes)?;
        let kind = quoted(entry(header, "descr")?)?;
        let shape = shape(entry(header, "shape")?)?;
        let vectors = shape.iter().filter(|&&d| d != 1).count() <= 1;
        if entry(header, "fortran_order")?.starts_with("True") && !vectors {
            return Err(NpyError::FortranOrder);
        }
        let size = match kind {
            "<f8" | "<i8" => 8,
            "<f4" | "<i4" => 4,
            "|u1" | "|b1" => 1,
            other => return Err(NpyError::Type(format!("'{other}'"))),
        };
        let expected = shape.iter().try_fold(size, |n: usize, &d| n.checked_mul(d));
        let expected = expected.ok_or_else(|| NpyError::Header("the shape is larger than memory".to_owned()))?;
        if expected != data.len() {
            return Err(NpyError::Length { expected, found: data.len() });
        }
        let elements = match kind {
            "<f4" => Elements::F32(words(data).map(f32::from_le_bytes).collect()),
            "<f8" => Elements::F64(words(data).map(f64::from_le_bytes).collect()),
            "<i4" => Elements::I64(words(data).map(|w| i32::from_le_bytes(w).into()).collect()),
            "<i8" => Elements::I64(words(data).map(i64::from_le_bytes).collect()),
            _ => Elements::U8(data.to_vec()),
        };
        Ok(Array { shape, elements })
    }

    /// The bytes of a `.npy` file, format version 1.0.
    pub fn write(&self) -> Vec<u8> {
        let (kind, data): (&str, Vec<u8>) = match &self.elements {
            Elements::F32(v) => ("<f4", v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::F64(v) => ("<f8", v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::I64(v) => ("<i8", v.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::U8(v) => ("|u1", v.clone()),
        };
        let dims: Vec<String> = self.shape.iter().map(|d| format!("{d},")).collect();
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", dims.join(" "));
        // Data start at a multiple of 64 bytes; the header ends in a newline.
        header.extend(std::iter::repeat_n(' ', 63 - (header.len() + 10) % 64));
        header.push('\n');
        let mut out = MAGIC.to_vec();
        out.extend([1, 0]);
        out.extend((header.len() as u16).to_le_bytes());
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }
}

/// Header text and data.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), NpyError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::NotNpy)?;
    let short = || NpyError::Header("the file ends inside it".to_owned());
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [version, ..] => return Err(NpyError::Header(format!("format version {version} is not known"))),
        [] => return Err(short()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| NpyError::Header("it is not text".to_owned()))?;
    Ok((header, data))
}

/// What follows `'key':` in the header's dictionary.
fn entry<'h>(header: &'h str, key: &str) -> Result<&'h str, NpyError> {
    let named = format!("'{key}':");
    let at = header.find(&named).ok_or_else(|| NpyError::Header(format!("it has no entry '{key}'")))?;
    Ok(header[at + named.len()..].trim_start())
}

fn quoted(text: &str) -> Result<&str, NpyError> {
    match text.strip_prefix('\'').and_then(|t| t.split_once('\'')) {
        Some((word, _)) => Ok(word),
        None => Err(NpyError::Type("with fields".to_owned())),
    }
}

fn shape(text: &str) -> Result<Vec<usize>, NpyError> {
    let bad = || NpyError::Header("the shape is not a tuple of sizes".to_owned());
    let (inside, _) = text.strip_prefix('(').and_then(|t| t.split_once(')')).ok_or_else(bad)?;
    let items = inside.split(',').map(str::trim).filter(|s| !s.is_empty());
    items.map(|s| s.parse().map_err(|_| bad())).collect()
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_and_rank_comes_back() {
        let elements = [
            Elements::F32(vec![1.5, -2.0, f32::NAN.abs()]),
            Elements::F64(vec![0.1, 2.0, -1e300]),
            Elements::I64(vec![-1, 0, i64::MAX]),
            Elements::U8(vec![0, 7, 255]),
        ];
        for elements in elements {
            for shape in [vec![3], vec![3, 1], vec![1, 3, 1, 1]] {
                let array = Array { shape, elements: elements.clone() };
                let bytes = array.write();
                let back = Array::read(&bytes).unwrap();
                assert_eq!(back.shape, array.shape);
                assert_eq!(format!("{:?}", back.elements), format!("{:?}", array.elements));
            }
        }
        let scalar = Array::f32(&[], vec![4.0]);
        assert_eq!(Array::read(&scalar.write()).unwrap(), scalar);
    }

    #[test]
    fn data_start_where_numpy_puts_them() {
        let bytes = Array::f32(&[2, 2], vec![0.0; 4]).write();
        assert_eq!((bytes.len() - 16) % 64, 0);
        assert_eq!(bytes[bytes.len() - 17], b'\n');
    }

    #[test]
    fn malformed_bytes_are_refused_without_panic() {
        let good = Array::f32(&[2, 2], vec![1.0; 4]).write();
        for cut in 0..good.len() {
            assert!(Array::read(&good[..cut]).is_err(), "cut {cut}");
        }
        for i in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[i / 8] ^= 1 << (i % 8);
            let _ = Array::read(&flipped);
        }
        let header = |text: &str| {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
            Array::read(&bytes)
        };
        let big = header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }");
        assert!(matches!(big, Err(NpyError::Header(_))));
        assert!(matches!(header("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }"), Err(NpyError::Type(_))));
        let fortran = header("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }");
        assert_eq!(fortran, Err(NpyError::FortranOrder));
        assert!(header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }").is_err());
        assert!(matches!(header("{}"), Err(NpyError::Header(_))));
    }
}
