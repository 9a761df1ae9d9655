//! The `.flp` file: a program and its networks.
//!
//! Layout, little-endian: magic `FLP\x01`, u32 CRC-32 (IEEE) of all that follows, u32 length of the program's text, u32
//! number of networks, the text ([`super::text`]), then for each network that is not derived from another a u32 length and
//! a `.flq` ([`crate::flq`]). The program's identity is the SHA-256 of the whole file.

use super::{Program, derived, text};
use crate::flq;
use crate::ir::Graph;

const MAGIC: [u8; 4] = *b"FLP\x01";
const HEADER: usize = 16;

/// Why a file is not a usable `.flp`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlpError {
    /// The first bytes are not those of a `.flp`.
    NotFlp,
    /// A `.flp` of another version.
    Version(u8),
    /// Something was cut off or appended.
    Length,
    /// The contents were changed after they were written.
    Checksum,
    /// The program does not parse or does not fit itself.
    Program(String),
    /// A network is not usable.
    Net {
        /// Which, from 0.
        net: usize,
        /// Why.
        error: flq::FlqError,
    },
}

impl std::fmt::Display for FlpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FlpError::NotFlp => {
                f.write_str("this is not a .flp file: write one with 'flowlet program build model.toml NAME'")
            }
            FlpError::Version(v) => write!(
                f,
                "this .flp has format version {v}, this compiler reads version {}: build the program again",
                MAGIC[3]
            ),
            FlpError::Length => f.write_str("the .flp is damaged: it is shorter or longer than it says"),
            FlpError::Checksum => {
                f.write_str("the .flp is damaged: its checksum does not match; copy or write it again")
            }
            FlpError::Program(m) => write!(f, "the .flp holds no valid program: {m}"),
            FlpError::Net { net, error } => write!(f, "network {net} of the .flp: {error}"),
        }
    }
}

impl std::error::Error for FlpError {}

/// The bytes of a `.flp`; `graphs` are those of all networks. The same program always gives the same bytes.
pub fn write(program: &Program, graphs: &[Graph]) -> Vec<u8> {
    let text = text::print(program);
    let own: Vec<&Graph> =
        graphs.iter().zip(&program.nets).filter(|(_, net)| net.of.is_none()).map(|(graph, _)| graph).collect();
    let mut body = Vec::new();
    body.extend((text.len() as u32).to_le_bytes());
    body.extend((own.len() as u32).to_le_bytes());
    body.extend(text.as_bytes());
    for graph in own {
        let bytes = flq::write(graph);
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend(bytes);
    }
    let mut out = MAGIC.to_vec();
    out.extend(flq::crc32(&body).to_le_bytes());
    out.extend(body);
    out
}

/// Reads a `.flp`: the program and a graph for each of its networks. The bytes are untrusted.
///
/// # Errors
/// When the file is not a `.flp`, was damaged, or holds something that breaks an invariant.
pub fn read(bytes: &[u8]) -> Result<(Program, Vec<Graph>), FlpError> {
    if bytes.get(..3) != Some(&MAGIC[..3]) {
        return Err(FlpError::NotFlp);
    }
    let version = bytes.get(3).copied().ok_or(FlpError::NotFlp)?;
    if version != MAGIC[3] {
        return Err(FlpError::Version(version));
    }
    let word = |at: usize| {
        let word = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    };
    let (Some(crc), Some(text_len), Some(nets)) = (word(4), word(8), word(12)) else { return Err(FlpError::Length) };
    if flq::crc32(&bytes[8..]) != crc {
        return Err(FlpError::Checksum);
    }
    let mut at = HEADER;
    let mut take = |len: u32| {
        let part = bytes.get(at..at.checked_add(len as usize)?)?;
        at += len as usize;
        Some(part)
    };
    let text = take(text_len).ok_or(FlpError::Length)?;
    let text = std::str::from_utf8(text).map_err(|e| FlpError::Program(e.to_string()))?;
    let program = text::parse(text).map_err(|e| FlpError::Program(e.to_string()))?;
    let own = program.nets.iter().filter(|net| net.of.is_none()).count();
    if nets as usize != own {
        return Err(FlpError::Program(format!("it calls {own} networks that are not derived and {nets} follow")));
    }
    let mut graphs = Vec::new();
    for net in 0..nets as usize {
        let len = take(4).ok_or(FlpError::Length)?;
        let part = take(u32::from_le_bytes([len[0], len[1], len[2], len[3]])).ok_or(FlpError::Length)?;
        graphs.push(flq::read(part).map_err(|error| FlpError::Net { net, error })?);
    }
    if at != bytes.len() {
        return Err(FlpError::Length);
    }
    let graphs = derived(&program, graphs).map_err(|e| FlpError::Program(e.to_string()))?;
    Ok((program, graphs))
}
