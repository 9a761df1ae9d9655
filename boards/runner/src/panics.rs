//! The check that an image cannot panic and holds no allocator.
//!
//! Every panic in Rust ends in the program's one panic handler, and our support crate's calls
//! `flowlet_board_panicked`, which is never inlined and whose name is not mangled. The linker
//! drops what nothing calls. So the image can panic if, and only if, that symbol is in it; the
//! other names say which panic it is, and the branches to them say from where.

use std::collections::BTreeMap;
use std::fmt;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::Error;

/// Something in an image that must not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The function's name, demangled.
    pub symbol: String,
    /// Why it must not be there.
    pub why: Why,
    /// The functions that branch to it, as far as branches tell.
    pub callers: Vec<String>,
}

/// Why a symbol must not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is on the way to a panic.
    Panic,
    /// It allocates memory.
    Allocator,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Panic => "can panic",
            Why::Allocator => "holds an allocator",
        };
        write!(f, "{why}: `{}`, called from ", self.symbol)?;
        if self.callers.is_empty() {
            return f.write_str("somewhere that no direct branch shows");
        }
        for (at, caller) in self.callers.iter().enumerate() {
            write!(f, "{}`{caller}`", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Parts of names that are on the way to a panic.
const PANICS: &[&str] = &[
    "flowlet_board_panicked",
    "rust_begin_unwind",
    "core::panicking::",
    "core::result::unwrap_failed",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::slice::index::slice_",
    "core::str::slice_error_fail",
    "core::cell::panic_",
];
/// Parts of names that allocate.
const ALLOCATORS: &[&str] =
    &["__rust_alloc", "__rust_realloc", "__rg_alloc", "alloc::alloc::", "alloc::raw_vec::", "alloc::vec::"];
/// What every image of ours has; without it the names cannot be trusted to be there.
const LANDMARK: &str = "Reset";

/// A function of an image.
struct Function {
    name: String,
    start: u64,
    end: u64,
}

/// Looks for panics and allocators in an image. An empty answer is a pass.
///
/// # Errors
/// When the file is not an ELF file or has no symbols to judge by, so that "nothing found" would
/// mean nothing.
pub fn check(elf: &[u8]) -> Result<Vec<Finding>, Error> {
    let file = object::File::parse(elf).map_err(|why| Error::new(format!("not an ELF file: {why}")))?;
    let functions = functions(&file);
    if !functions.iter().any(|function| function.name == LANDMARK) {
        return Err(Error::new(format!(
            "the image has no symbol `{LANDMARK}`, so its names cannot tell whether it can panic"
        ))
        .help("link it with cortex-m-rt, and do not strip it (`strip = false` in the profile)"));
    }
    let callers = callers(&file, &functions);
    let judged = functions.iter().filter_map(|function| {
        let why = judge(&function.name)?;
        let callers = callers.get(&function.start).cloned().unwrap_or_default();
        Some(Finding { symbol: function.name.clone(), why, callers })
    });
    Ok(judged.collect())
}

fn judge(name: &str) -> Option<Why> {
    let any = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if any(PANICS) {
        Some(Why::Panic)
    } else if any(ALLOCATORS) {
        Some(Why::Allocator)
    } else {
        None
    }
}

fn functions(file: &object::File<'_>) -> Vec<Function> {
    let symbols = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition() && symbol.size() > 0);
    let mut functions: Vec<Function> = symbols
        .filter_map(|symbol| {
            // The lowest bit of a function's address says "Thumb", not where it is.
            let start = symbol.address() & !1;
            let name = format!("{:#}", rustc_demangle::demangle(symbol.name().ok()?));
            Some(Function { name, start, end: start + symbol.size() })
        })
        .collect();
    functions.sort_by_key(|function| function.start);
    functions
}

/// For each function that is branched to, by address: the functions that do, by name.
fn callers(file: &object::File<'_>, functions: &[Function]) -> BTreeMap<u64, Vec<String>> {
    let mut callers: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for section in file.sections() {
        let Ok(code) = section.data() else { continue };
        let (start, end) = (section.address(), section.address() + section.size());
        for function in functions.iter().filter(|f| f.start >= start && f.end <= end) {
            let body = &code[(function.start - start) as usize..(function.end - start) as usize];
            for target in branches(body, function.start) {
                let names = callers.entry(target).or_default();
                if target != function.start && !names.contains(&function.name) {
                    names.push(function.name.clone());
                }
            }
        }
    }
    callers
}

/// The targets of the long branches (`bl`, `b.w`) in Thumb code that starts at `address`.
/// Constants between instructions may look like one; the names serve a person who looks for the
/// cause, they decide nothing.
fn branches(code: &[u8], address: u64) -> Vec<u64> {
    let (halves, _) = code.as_chunks::<2>();
    let halves: Vec<u16> = halves.iter().map(|half| u16::from_le_bytes(*half)).collect();
    let mut targets = Vec::new();
    let mut at = 0;
    while let Some(&first) = halves.get(at) {
        let long = first >> 11 >= 0b11101;
        if let (true, Some(&second)) = (long, halves.get(at + 1))
            && let Some(offset) = branch_offset(first, second)
        {
            let from = address + 2 * at as u64 + 4;
            targets.push(from.wrapping_add_signed(offset));
        }
        at += if long { 2 } else { 1 };
    }
    targets
}

/// The offset of `bl` (encoding T1) and `b.w` (encoding T4), which share all but one bit:
/// `11110 S imm10 | 1 L J1 1 J2 imm11` with `I = !(J ^ S)` and 25 bits `S:I1:I2:imm10:imm11:0`.
fn branch_offset(first: u16, second: u16) -> Option<i64> {
    if first & 0xf800 != 0xf000 || second & 0x9000 != 0x9000 {
        return None;
    }
    let bit = |word: u16, at: u32| i64::from(word >> at & 1);
    let sign = bit(first, 10);
    let i1 = 1 - (bit(second, 13) ^ sign);
    let i2 = 1 - (bit(second, 11) ^ sign);
    let high = i64::from(first & 0x3ff);
    let low = i64::from(second & 0x7ff);
    Some(-(sign << 24) + (i1 << 23) + (i2 << 22) + (high << 12) + (low << 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_decoded() {
        // From a listing: `526: f001 f831  bl 158c` and `50e: f000 825b  beq.w 9c8` (not one).
        assert_eq!(branches(&[0x01, 0xf0, 0x31, 0xf8], 0x526), [0x158c]);
        assert!(branches(&[0x00, 0xf0, 0x5b, 0x82], 0x50e).is_empty());
        // `bl` to itself: offset -4.
        assert_eq!(branches(&[0xff, 0xf7, 0xfe, 0xff], 0x1000), [0x1000]);
        assert!(branches(&[0xff], 0).is_empty());
    }

    #[test]
    fn names_are_judged() {
        assert_eq!(judge("core::panicking::panic_bounds_check"), Some(Why::Panic));
        assert_eq!(judge("core::slice::index::slice_index_fail"), Some(Why::Panic));
        assert_eq!(judge("__rust_alloc"), Some(Why::Allocator));
        assert_eq!(judge("fashion_tiny::Model::step"), None);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(check(b"").is_err());
        assert!(check(b"\x7fELF").is_err());
    }
}
