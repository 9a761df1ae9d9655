//! Report lines: what a board program says to the host.
//!
//! A line is its kind and then `key=value` pairs, separated by one space and ended by a newline:
//!
//! ```text
//! image model=fashion-tiny seed=3 label=7 bytes=784 hex=00ff...
//! stack model=fashion-tiny used=1312
//! done model=fashion-tiny images=80
//! ```
//!
//! Keys and text values hold no space, `=` or newline; numbers are decimal; byte strings are
//! lower-case hexadecimal. The runner refuses lines of a known kind that break the grammar and
//! passes every other line on, so that a program may also print for people.

use crate::semihosting;

/// One report line while it is being written; the newline comes when it is dropped.
pub struct Line {
    text: [u8; CHUNK],
    length: usize,
}

/// Bytes gathered before they are handed to the host: one call a chunk, not one a byte.
const CHUNK: usize = 64;

impl Line {
    /// Starts a line of this kind.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let mut line = Self { text: [0; CHUNK], length: 0 };
        line.push_all(kind.as_bytes());
        line
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, key: &str, value: u32) -> Self {
        self.key(key);
        // The powers of ten in a table: no division, so no "division by zero" path to panic on.
        let mut rest = value;
        let mut started = false;
        for power in [1_000_000_000u32, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1] {
            let mut digit = b'0';
            while rest >= power {
                rest -= power;
                digit += 1;
            }
            started |= digit != b'0' || power == 1;
            if started {
                self.push(digit);
            }
        }
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        self.push_all(value.as_bytes());
        self
    }

    /// Adds bytes in hexadecimal. Takes signed bytes as well, which are what model ports hold.
    #[must_use]
    pub fn hex<B: Byte>(mut self, key: &str, bytes: &[B]) -> Self {
        self.key(key);
        for byte in bytes {
            let byte = byte.bits();
            self.push(hex_digit(byte >> 4));
            self.push(hex_digit(byte & 15));
        }
        self
    }

    /// Ends the line (as dropping it does).
    pub fn end(self) {}

    fn key(&mut self, key: &str) {
        self.push(b' ');
        self.push_all(key.as_bytes());
        self.push(b'=');
    }

    fn push_all(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.push(byte);
        }
    }

    /// Not inlined: it is called from everywhere, and a report line is in no hurry.
    #[inline(never)]
    fn push(&mut self, byte: u8) {
        if self.length == CHUNK {
            self.flush();
        }
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn flush(&mut self) {
        if let Some(text) = self.text.get(..self.length) {
            semihosting::write(text);
        }
        self.length = 0;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.push(b'\n');
        self.flush();
    }
}

/// A byte of either sign.
pub trait Byte: Copy {
    /// Its eight bits.
    fn bits(self) -> u8;
}

impl Byte for u8 {
    fn bits(self) -> u8 {
        self
    }
}

impl Byte for i8 {
    fn bits(self) -> u8 {
        self.cast_unsigned()
    }
}

fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' - 10 + nibble,
    }
}
