//! Descriptions of parts as text: the subset of TOML that they need.
//!
//! ```toml
//! name = "my-board"
//! triple = "thumbv7em-none-eabihf"   # optional: any will do
//! arch = "arm"                       # optional
//! isa = "arm_dsp"                    # of the kernels; also the Cargo feature of flowlet on microcontrollers
//!
//! [[memory]]                         # of each kind the fastest first
//! name = "dtcm"
//! kind = "ram"
//! bytes = 131_072
//! section = ".dtcm"                  # optional
//! ```

use super::{Memory, MemoryKind, Target};
use flowlet_plan::Isa;
use std::borrow::Cow;

/// Why a description is not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptionError {
    /// The line, from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong and what is expected.
    pub message: String,
}

impl std::fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for DescriptionError {}

/// A key with its value.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Number(usize),
}

impl Value {
    fn parse(text: &str) -> Option<Value> {
        if let Some(rest) = text.strip_prefix('"') {
            let (inner, after) = rest.split_once('"')?;
            let plain = !inner.contains('\\') && !inner.chars().any(char::is_control);
            return (plain && is_comment(after)).then(|| Value::Text(inner.to_owned()));
        }
        let (digits, after) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len()));
        is_comment(after).then(|| digits.replace('_', "").parse().ok().map(Value::Number))?
    }
}

fn is_comment(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('#')
}

/// Keys of the part, or of one memory, with their lines.
#[derive(Clone, Debug, Default)]
struct Table {
    line: usize,
    entries: Vec<(String, Value, usize)>,
}

impl Table {
    fn text(&self, key: &str) -> Result<Option<String>, DescriptionError> {
        match self.entries.iter().find(|(k, ..)| k == key) {
            Some((_, Value::Text(text), _)) => Ok(Some(text.clone())),
            Some((_, Value::Number(n), line)) => {
                Err(DescriptionError { line: *line, message: format!("{key} = {n}: write a text in quotes") })
            }
            None => Ok(None),
        }
    }

    fn wanted(&self, key: &str, what: &str) -> Result<String, DescriptionError> {
        let missing = || DescriptionError { line: self.line, message: format!("{key} is missing: {what}") };
        self.text(key)?.ok_or_else(missing)
    }

    fn memory(&self) -> Result<Memory, DescriptionError> {
        let name = self.wanted("name", "the name of the memory")?;
        let kind = self.wanted("kind", "\"ram\" or \"flash\"")?;
        let kind = [MemoryKind::Ram, MemoryKind::Flash].into_iter().find(|k| k.name() == kind).ok_or_else(|| {
            DescriptionError {
                line: self.line,
                message: format!("memory '{name}': kind = \"{kind}\" is neither ram nor flash"),
            }
        })?;
        let bytes = match self.entries.iter().find(|(k, ..)| k == "bytes") {
            Some((_, Value::Number(bytes), _)) if *bytes > 0 => *bytes,
            Some((.., line)) => {
                return Err(DescriptionError {
                    line: *line,
                    message: format!("memory '{name}': bytes is a number above 0"),
                });
            }
            None => {
                return Err(DescriptionError {
                    line: self.line,
                    message: format!("memory '{name}': bytes is missing"),
                });
            }
        };
        Ok(Memory { name: Cow::Owned(name), kind, bytes, section: self.text("section")?.map(Cow::Owned) })
    }
}

const PART: &[&str] = &["name", "triple", "arch", "isa"];
const MEMORY: &[&str] = &["name", "kind", "bytes", "section"];

impl Target {
    /// Reads a description: keys of the part (`name`, `triple`, `arch`, `isa`), then a `[[memory]]` for each range of addresses
    /// (`name`, `kind = "ram"` or `"flash"`, `bytes`, `section`), of each kind the fastest first.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    ///
    /// ```
    /// use flowlet_compiler::target::Target;
    /// let text = "name = \"chip\"\nisa = \"arm_dsp\"\n[[memory]]\nname = \"tcm\"\nkind = \"ram\"\nbytes = 65_536\n";
    /// assert_eq!(Target::parse(text)?.memories[0].bytes, 65536);
    /// # Ok::<(), flowlet_compiler::target::DescriptionError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Target, DescriptionError> {
        let mut tables = vec![Table::default()];
        for (number, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
            let fail = |message: String| DescriptionError { line: number, message };
            if is_comment(line) {
                continue;
            }
            if line.strip_prefix("[[memory]]").is_some_and(is_comment) {
                tables.push(Table { line: number, entries: Vec::new() });
                continue;
            }
            let last = tables.len() - 1;
            let (key, value) =
                line.split_once('=').ok_or_else(|| fail(format!("'{line}' is neither KEY = VALUE nor [[memory]]")))?;
            let (key, known) = (key.trim(), if last == 0 { PART } else { MEMORY });
            if !known.contains(&key) {
                return Err(fail(format!("'{key}' is not known here; known are {}", known.join(", "))));
            }
            if tables[last].entries.iter().any(|(k, ..)| k == key) {
                return Err(fail(format!("{key} is given twice")));
            }
            let value =
                Value::parse(value.trim()).ok_or_else(|| fail(format!("{key} is neither \"a text\" nor a number")))?;
            tables[last].entries.push((key.to_owned(), value, number));
        }
        let part = &tables[0];
        let name = part.wanted("name", "the name of the part")?;
        let isa = part.wanted("isa", "the instruction set of the kernels, such as \"arm_dsp\" or \"scalar\"")?;
        let isa = Isa::ALL.into_iter().find(|i| i.name() == isa).ok_or_else(|| {
            let known: Vec<&str> = Isa::ALL.iter().map(|i| i.name()).collect();
            DescriptionError { line: 0, message: format!("isa = \"{isa}\" is none of {}", known.join(", ")) }
        })?;
        let features: &'static [&'static str] = match isa {
            Isa::ArmDsp => &["arm_dsp"],
            Isa::ArmMve => &["arm_mve"],
            Isa::Scalar | Isa::Neon | Isa::NeonDot | Isa::NeonI8mm | Isa::Avx2 | Isa::Avx512Vnni => &[],
        };
        let memories: Vec<Memory> = tables[1..].iter().map(Table::memory).collect::<Result<_, _>>()?;
        for (i, memory) in memories.iter().enumerate() {
            if memories[..i].iter().any(|m| m.name == memory.name) {
                let message = format!("there are two memories '{}'", memory.name);
                return Err(DescriptionError { line: tables[i + 1].line, message });
            }
        }
        let first_flash = memories.iter().find(|m| m.kind == MemoryKind::Flash);
        Ok(Target {
            weights_section: first_flash.and_then(|m| m.section.clone()),
            name: Cow::Owned(name),
            triple: part.text("triple")?.map(Cow::Owned),
            arch: part.text("arch")?.map(Cow::Owned),
            isa,
            features,
            memories: Cow::Owned(memories),
            ..Target::host()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: &str = "# a board\nname = \"board\"\ntriple = \"thumbv7em-none-eabihf\"\narch = \"arm\"\nisa = \"arm_dsp\"\n\n\
        [[memory]] # fast\nname = \"dtcm\"\nkind = \"ram\"\nbytes = 131_072 # 128 KiB\nsection = \".dtcm\"\n\
        [[memory]]\nname = \"flash\"\nkind = \"flash\"\nbytes = 1048576\n";

    #[test]
    fn a_description_is_read() {
        let target = Target::parse(BOARD).unwrap();
        assert_eq!((target.name.as_ref(), target.isa, target.features), ("board", Isa::ArmDsp, &["arm_dsp"][..]));
        let ram: Vec<&Memory> = target.memories_of(MemoryKind::Ram).collect();
        assert_eq!((ram.len(), ram[0].bytes, ram[0].section.as_deref()), (1, 131_072, Some(".dtcm")));
        assert_eq!(target.memories[1].section, None);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (from, to, wanted) in [
            ("name = \"board\"\n", "", "name is missing"),
            ("isa = \"arm_dsp\"", "isa = \"z80\"", "none of scalar, arm_dsp"),
            ("kind = \"ram\"", "kind = \"rom\"", "line 7: memory 'dtcm': kind"),
            ("bytes = 131_072", "bytes = 0", "line 10: memory 'dtcm': bytes is a number above 0"),
            ("bytes = 131_072 # 128 KiB", "bytes = \"128K\"", "line 10"),
            ("section = \".dtcm\"", "sektion = \".dtcm\"", "line 11: 'sektion' is not known"),
            ("arch = \"arm\"", "arch = arm", "line 4: arch is neither"),
            ("arch = \"arm\"", "arch", "line 4: 'arch' is neither"),
            ("arch = \"arm\"", "name = \"b\"", "line 4: name is given twice"),
            ("name = \"flash\"", "name = \"dtcm\"", "line 12: there are two memories 'dtcm'"),
            ("arch = \"arm\"", "arch = 3", "line 4: arch = 3: write a text"),
        ] {
            let error = Target::parse(&BOARD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(wanted), "{from} -> {to}: {error}");
        }
    }
}
