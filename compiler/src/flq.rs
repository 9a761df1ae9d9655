//! The `.flq` file: a target-independent graph, quantised or float.
//!
//! Layout, little-endian: magic `FLQ\x01`, u32 length of the text, u32 length of the data, u32 CRC-32 (IEEE) of text and
//! data, the IR text ([`crate::ir::print`]), then the elements of its constants in the order of the text. The model's
//! identity is the SHA-256 of the whole file.

use crate::ir::{ConstStyle, Def, Graph, Stage, parse, print, verify};
use sha2::{Digest, Sha256};

const MAGIC: [u8; 4] = *b"FLQ\x01";
const HEADER: usize = 16;

/// Why a file is not a usable `.flq`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlqError {
    /// The first bytes are not those of a `.flq`.
    NotFlq,
    /// A `.flq` of another version.
    Version(u8),
    /// The file is shorter or longer than its header says.
    Length {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Text or data were changed after they were written.
    Checksum,
    /// The text does not parse or breaks an invariant.
    Graph(String),
}

impl std::fmt::Display for FlqError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FlqError::NotFlq => {
                f.write_str("this is not a .flq file: write one with 'flowlet quantize MODEL.onnx -o MODEL.flq'")
            }
            FlqError::Version(v) => write!(
                f,
                "this .flq has format version {v}, this compiler reads version {}: quantize the model again",
                MAGIC[3]
            ),
            FlqError::Length { expected, found } => {
                write!(f, "the .flq is damaged: its header announces {expected} bytes and {found} are there")
            }
            FlqError::Checksum => {
                f.write_str("the .flq is damaged: its checksum does not match; copy or write it again")
            }
            FlqError::Graph(m) => write!(f, "the .flq holds no valid graph: {m}"),
        }
    }
}

impl std::error::Error for FlqError {}

/// The bytes of a `.flq`. The same graph always gives the same bytes.
pub fn write(graph: &Graph) -> Vec<u8> {
    let text = print(graph, ConstStyle::Blob);
    let mut body = text.clone().into_bytes();
    for value in &graph.values {
        if let Def::Const(tensor) = &value.def {
            body.extend(tensor.to_le_bytes());
        }
    }
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend(MAGIC);
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(((body.len() - text.len()) as u32).to_le_bytes());
    out.extend(crc32(&body).to_le_bytes());
    out.extend(body);
    out
}

/// Reads and verifies a `.flq`. The bytes are untrusted.
///
/// # Errors
/// When the file is not a `.flq`, was damaged, or holds a graph that breaks an invariant.
pub fn read(bytes: &[u8]) -> Result<Graph, FlqError> {
    let graph = read_unverified(bytes)?;
    let stage = if is_quantized(&graph) { Stage::Quantized } else { Stage::Static };
    verify(&graph, stage).map_err(|e| FlqError::Graph(e.to_string()))?;
    Ok(graph)
}

fn read_unverified(bytes: &[u8]) -> Result<Graph, FlqError> {
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if bytes.get(..3) != Some(&MAGIC[..3]) {
        return Err(FlqError::NotFlq);
    }
    if bytes.get(3) != Some(&MAGIC[3]) {
        return Err(bytes.get(3).map_or(FlqError::NotFlq, |v| FlqError::Version(*v)));
    }
    let (Some(text_len), Some(data_len), Some(crc)) = (word(4), word(8), word(12)) else {
        return Err(FlqError::Length { expected: HEADER as u64, found: bytes.len() as u64 });
    };
    let expected = HEADER as u64 + u64::from(text_len) + u64::from(data_len);
    if bytes.len() as u64 != expected {
        return Err(FlqError::Length { expected, found: bytes.len() as u64 });
    }
    let body = &bytes[HEADER..];
    if crc32(body) != crc {
        return Err(FlqError::Checksum);
    }
    let (text, data) = body.split_at(text_len as usize);
    let text = std::str::from_utf8(text).map_err(|e| FlqError::Graph(e.to_string()))?;
    parse(text, data).map_err(|e| FlqError::Graph(e.to_string()))
}

/// Whether the graph says that it is int8, as [`crate::compile::quantize`] writes it; [`read`] verifies what it says.
pub fn is_quantized(graph: &Graph) -> bool {
    graph.meta("precision") == Some("int8")
}

/// The model's identity: SHA-256 of the file.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320).
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_file_reads_back_and_any_flipped_bit_is_refused() {
        let text = "graph \"t\" (%x: f32[1,2]) -> (%y) {\n  const @w: f32[2,2] = random 3\n  const @b: f32[2] = [1.0, 2.0]\n  %y = linear %x, @w, @b : f32[1,2] from \"fc\"\n}\n";
        let graph = parse(text, &[]).unwrap();
        let bytes = write(&graph);
        assert_eq!(read(&bytes).unwrap(), graph);
        for i in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[i / 8] ^= 1 << (i % 8);
            assert!(read(&flipped).is_err(), "bit {i}");
        }
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut {cut}");
        }
    }
}
