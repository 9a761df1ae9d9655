//! The grammar of report lines, as the firmware's `report` module writes them.
//!
//! `kind key=value key=value ...`, one space between, no space or `=` in keys, no space in values.

use std::fmt;

/// One parsed report line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The first word.
    pub kind: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

/// Why a line is not a report line, or lacks what its kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineError {
    /// A word after the first is not `key=value`.
    NotAPair(String),
    /// The same key twice.
    Twice(String),
    /// A key that this kind needs is missing.
    Missing(&'static str),
    /// A value that is not a decimal number that fits.
    NotANumber(&'static str, String),
    /// A value that is not an even number of lower-case hexadecimal digits.
    NotHex(&'static str),
    /// The number of bytes said is not the number of bytes there.
    Length {
        /// What the line's `bytes` says.
        said: u64,
        /// How many bytes its `hex` holds.
        found: usize,
    },
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPair(word) => write!(f, "`{}` is not `key=value`", shorten(word)),
            Self::Twice(key) => write!(f, "the key `{}` is there twice", shorten(key)),
            Self::Missing(key) => write!(f, "the key `{key}` is missing"),
            Self::NotANumber(key, value) => {
                write!(f, "`{key}={}` is not a decimal number below 2^64", shorten(value))
            }
            Self::NotHex(key) => write!(f, "`{key}` is not pairs of lower-case hexadecimal digits"),
            Self::Length { said, found } => {
                write!(f, "`bytes={said}`, but `hex` holds {found} bytes")
            }
        }
    }
}

impl<'a> Line<'a> {
    /// Parses a line without its newline.
    ///
    /// # Errors
    /// When a word after the first is not `key=value`, or a key comes twice.
    pub fn parse(text: &'a str) -> Result<Self, LineError> {
        let text = text.strip_suffix('\r').unwrap_or(text);
        let mut words = text.split(' ');
        let kind = words.next().unwrap_or_default();
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| LineError::NotAPair(word.to_owned()))?;
            if key.is_empty() {
                return Err(LineError::NotAPair(word.to_owned()));
            }
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(LineError::Twice(key.to_owned()));
            }
            pairs.push((key, value));
        }
        Ok(Self { kind, pairs })
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn text(&self, key: &'static str) -> Result<&'a str, LineError> {
        self.pairs.iter().find_map(|(known, value)| (*known == key).then_some(*value)).ok_or(LineError::Missing(key))
    }

    /// The value of a key that must be there and a decimal number.
    ///
    /// # Errors
    /// When it is not.
    pub fn number(&self, key: &'static str) -> Result<u64, LineError> {
        let text = self.text(key)?;
        let wrong = || LineError::NotANumber(key, text.to_owned());
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse().map_err(|_| wrong())
    }

    /// The value of a key that must be there and a byte string in hexadecimal.
    ///
    /// # Errors
    /// When it is not.
    pub fn hex(&self, key: &'static str) -> Result<Vec<u8>, LineError> {
        let digits = self.text(key)?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(LineError::NotHex(key));
        }
        pairs
            .iter()
            .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?))
            .collect::<Option<_>>()
            .ok_or(LineError::NotHex(key))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The beginning of a text that may be long, for messages.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_line() {
        let line = Line::parse("image model=m seed=3 hex=00ff7f\r").unwrap();
        assert_eq!(line.kind, "image");
        assert_eq!(line.text("model"), Ok("m"));
        assert_eq!(line.number("seed"), Ok(3));
        assert_eq!(line.hex("hex"), Ok(vec![0, 255, 127]));
        assert_eq!(line.number("label"), Err(LineError::Missing("label")));
    }

    #[test]
    fn what_is_refused() {
        assert!(matches!(Line::parse("image seed"), Err(LineError::NotAPair(_))));
        assert!(matches!(Line::parse("image  seed=1"), Err(LineError::NotAPair(_))));
        assert!(matches!(Line::parse("image =1"), Err(LineError::NotAPair(_))));
        assert!(matches!(Line::parse("image a=1 a=1"), Err(LineError::Twice(_))));
        for text in ["x n=", "x n=-1", "x n=+1", "x n=1.0", "x n=18446744073709551616"] {
            assert!(matches!(Line::parse(text).unwrap().number("n"), Err(LineError::NotANumber(..))));
        }
        for text in ["x h=0", "x h=0G", "x h=FF", "x h=é"] {
            assert_eq!(Line::parse(text).unwrap().hex("h"), Err(LineError::NotHex("h")));
        }
    }

    #[test]
    fn any_text_is_answered() {
        for text in ["", " ", "=", "é=ü", "a b=c=d"] {
            let _ = Line::parse(text);
        }
        assert_eq!(shorten(&"é".repeat(61)), format!("{}...", "é".repeat(60)));
    }
}
