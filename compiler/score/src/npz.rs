//! Reads and writes NumPy's `.npz` archives: a zip file with one `.npy` for each name, stored or deflated.
//!
//! Format: APPNOTE.TXT 6.3 of PKWARE, sections 4.3 and 4.4; neither several disks, nor encryption, nor zip64. The bytes
//! are untrusted: only the arrays that are asked for are unpacked, no more of one than [`LARGEST`], and each against its
//! checksum. (The crates that read this format bring a dozen others for methods that NumPy never writes.)

use crate::npy::{Array, NpyError};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use std::fmt;
use std::io::Read;

/// Unpacked bytes of one array, at most: an archive of a few kilobytes can announce more than any memory holds.
pub const LARGEST: u64 = 2 << 30;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
/// Bytes of each of the three records before their names, extra fields and comments.
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
/// The largest comment behind the last record.
const COMMENT_BYTES: usize = 65_535;
const STORED: usize = 0;
const DEFLATED: usize = 8;
/// What a date of 1 January 1980 is: the same arrays give the same bytes.
const FIRST_DATE: u16 = 1 << 5 | 1;

/// Why bytes are not a usable archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NpzError {
    /// Not a zip file, or a damaged one.
    Archive(String),
    /// There is no array of this name.
    Missing {
        /// The name asked for.
        name: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// An array is larger than [`LARGEST`].
    TooLarge {
        /// Its name.
        name: String,
    },
    /// An array is not usable.
    Array {
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: NpyError,
    },
}

impl fmt::Display for NpzError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NpzError::Archive(m) => write!(f, "not a usable .npz file ({m}): write it with numpy.savez"),
            NpzError::Missing { name, known } => {
                write!(f, "it holds no array '{name}'; it holds {}", if known.is_empty() { "none" } else { "" })?;
                f.write_str(&known.join(", "))
            }
            NpzError::TooLarge { name } => write!(f, "the array '{name}' is larger than {LARGEST} bytes"),
            NpzError::Array { name, error } => write!(f, "the array '{name}': {error}"),
        }
    }
}

impl std::error::Error for NpzError {}

/// An archive, its arrays still packed.
#[derive(Clone, Debug)]
pub struct Npz<'b> {
    bytes: &'b [u8],
    entries: Vec<Entry>,
}

/// A record of the central directory.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    method: usize,
    crc: usize,
    packed: usize,
    unpacked: usize,
    /// Where its local record begins.
    at: usize,
}

impl<'b> Npz<'b> {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// When the bytes are no zip file.
    pub fn open(bytes: &'b [u8]) -> Result<Self, NpzError> {
        let tail = bytes.len().saturating_sub(END_BYTES + COMMENT_BYTES);
        let last = bytes[tail..].windows(END.len()).rposition(|w| w == END).ok_or_else(|| damaged("no directory"))?;
        let end = Record { bytes, at: tail + last };
        end.slice(0, END_BYTES)?;
        let (count, mut at) = (end.u16(10)?, end.u32(16)?);
        let mut entries = Vec::new();
        for _ in 0..count {
            let record = Record { bytes, at };
            if record.slice(0, CENTRAL.len())? != CENTRAL {
                return Err(damaged("a record of the directory is not one"));
            }
            let (name, extra, comment) = (record.u16(28)?, record.u16(30)?, record.u16(32)?);
            entries.push(Entry {
                name: String::from_utf8_lossy(record.slice(CENTRAL_BYTES, name)?).into_owned(),
                method: record.u16(10)?,
                crc: record.u32(16)?,
                packed: record.u32(20)?,
                unpacked: record.u32(24)?,
                at: record.u32(42)?,
            });
            at += CENTRAL_BYTES + name + extra + comment;
        }
        Ok(Npz { bytes, entries })
    }

    /// The names of the arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let stem = |e: &Entry| e.name.strip_suffix(".npy").unwrap_or(&e.name).to_owned();
        let mut names: Vec<String> = self.entries.iter().map(stem).collect();
        names.sort();
        names
    }

    /// The array of this name; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be unpacked or is not a usable array.
    pub fn find(&self, name: &str) -> Result<Option<Array>, NpzError> {
        let Some(entry) = self.entries.iter().find(|e| e.name.strip_suffix(".npy") == Some(name)) else {
            return Ok(None);
        };
        let unpacked = self.unpack(entry, name)?;
        Array::read(&unpacked).map(Some).map_err(|error| NpzError::Array { name: name.to_owned(), error })
    }

    /// The array of this name.
    ///
    /// # Errors
    /// As [`Npz::find`], and when there is none.
    pub fn array(&self, name: &str) -> Result<Array, NpzError> {
        self.find(name)?.ok_or_else(|| NpzError::Missing { name: name.to_owned(), known: self.names() })
    }

    fn unpack(&self, entry: &Entry, name: &str) -> Result<Vec<u8>, NpzError> {
        if entry.unpacked as u64 > LARGEST {
            return Err(NpzError::TooLarge { name: name.to_owned() });
        }
        let local = Record { bytes: self.bytes, at: entry.at };
        if local.slice(0, LOCAL.len())? != LOCAL {
            return Err(damaged("the directory points at no array"));
        }
        let packed = local.slice(LOCAL_BYTES + local.u16(26)? + local.u16(28)?, entry.packed)?;
        let mut unpacked = Vec::new();
        match entry.method {
            STORED => unpacked.extend_from_slice(packed),
            DEFLATED => {
                // One byte more than announced shows that more is there.
                let mut inflated = DeflateDecoder::new(packed).take(entry.unpacked as u64 + 1);
                inflated.read_to_end(&mut unpacked).map_err(|e| damaged(&e.to_string()))?;
            }
            method => return Err(damaged(&format!("'{name}' is packed by method {method}"))),
        }
        if unpacked.len() != entry.unpacked || checksum(&unpacked) as usize != entry.crc {
            return Err(damaged(&format!("'{name}' does not have the length and checksum that the directory says")));
        }
        Ok(unpacked)
    }
}

/// Fields of a record, by their offset in it.
struct Record<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Record<'b> {
    fn slice(&self, offset: usize, length: usize) -> Result<&'b [u8], NpzError> {
        let rest = self.at.checked_add(offset).and_then(|from| self.bytes.get(from..));
        rest.and_then(|rest| rest.get(..length)).ok_or_else(|| damaged("it ends too early"))
    }

    fn u16(&self, offset: usize) -> Result<usize, NpzError> {
        Ok(self.slice(offset, 2)?.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
    }

    fn u32(&self, offset: usize) -> Result<usize, NpzError> {
        Ok(self.u16(offset + 2)? << 16 | self.u16(offset)?)
    }
}

/// The bytes of an archive, not compressed, as `numpy.savez` writes it. The same arrays give the same bytes.
///
/// # Errors
/// When the arrays are larger than such a file can hold.
pub fn write(arrays: &[(&str, &Array)]) -> Result<Vec<u8>, NpzError> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, array) in arrays {
        let (file, bytes) = (format!("{name}.npy"), array.write());
        let too_large = |_| NpzError::TooLarge { name: (*name).to_owned() };
        let size = u32::try_from(bytes.len()).map_err(too_large)?;
        let at = u32::try_from(out.len()).map_err(too_large)?;
        let length = u16::try_from(file.len()).map_err(too_large)?;
        // Both records share these: version, flags, method, time, date, checksum, sizes, lengths of name and extra field.
        let mut shared = Vec::new();
        [20u16, 0, 0, 0, FIRST_DATE].iter().for_each(|n| shared.extend(n.to_le_bytes()));
        [checksum(&bytes), size, size].iter().for_each(|n| shared.extend(n.to_le_bytes()));
        [length, 0].iter().for_each(|n| shared.extend(n.to_le_bytes()));
        directory.extend_from_slice(CENTRAL);
        directory.extend(20u16.to_le_bytes());
        directory.extend_from_slice(&shared);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend_from_slice(file.as_bytes());
        out.extend_from_slice(LOCAL);
        out.extend(shared);
        out.extend_from_slice(file.as_bytes());
        out.extend(bytes);
    }
    let too_large = |_| damaged("more arrays than a directory holds");
    let count = u16::try_from(arrays.len()).map_err(too_large)?;
    let at = u32::try_from(out.len()).map_err(too_large)?;
    let size = u32::try_from(directory.len()).map_err(too_large)?;
    out.extend(directory);
    out.extend_from_slice(END);
    [0, 0, count, count].iter().for_each(|n: &u16| out.extend(n.to_le_bytes()));
    [size, at].iter().for_each(|n| out.extend(n.to_le_bytes()));
    out.extend([0; 2]);
    Ok(out)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn damaged(what: &str) -> NpzError {
    NpzError::Archive(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<u8> {
        let (a, b) = (Array::f32(&[2], vec![1.0, 2.0]), Array::f32(&[2, 1], vec![3.0, 4.0]));
        write(&[("mu", &a), ("sigma", &b)]).unwrap()
    }

    #[test]
    fn arrays_come_back_by_name() {
        let bytes = two();
        let npz = Npz::open(&bytes).unwrap();
        assert_eq!(npz.names(), ["mu", "sigma"]);
        assert_eq!(npz.array("sigma").unwrap(), Array::f32(&[2, 1], vec![3.0, 4.0]));
        assert_eq!(npz.find("features").unwrap(), None);
        let missing = npz.array("features").unwrap_err().to_string();
        assert!(missing.contains("'features'") && missing.contains("mu, sigma"), "{missing}");
        assert_eq!(two(), bytes);
    }

    #[test]
    fn malformed_bytes_are_refused_without_panic() {
        let good = two();
        for cut in 0..good.len() {
            assert!(Npz::open(&good[..cut]).and_then(|z| z.array("mu")).is_err(), "cut {cut}");
        }
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = Npz::open(&flipped).and_then(|z| z.array("mu"));
        }
    }
}
