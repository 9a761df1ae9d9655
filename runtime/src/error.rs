//! What a caller can get wrong at the edges of a model.

use core::fmt;

use crate::plan::Isa;

/// Why a call was refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// The arena is smaller than the plan's.
    ArenaTooSmall {
        /// What the plan needs.
        need_bytes: usize,
        /// What was given.
        have_bytes: usize,
    },
    /// The arena does not start at a multiple of 16 bytes.
    ArenaMisaligned {
        /// How far the next aligned byte is.
        skip_bytes: usize,
    },
    /// Weights are packed for kernels that this build does not have, or that this processor cannot run.
    NoKernel {
        /// Whose kernels read them.
        isa: Isa,
        /// The first such step.
        step: usize,
    },
    /// The plan has more index inputs than the executor holds.
    TooManyIndices {
        /// What the plan has.
        have: usize,
    },
    /// The plan has nothing of that kind with that name or number.
    Unknown {
        /// What was looked for.
        kind: Kind,
        /// The name, or the number in decimal.
        name: Name,
    },
    /// An index input was given a value that it does not take.
    IndexOutOfRange {
        /// The index input.
        name: Name,
        /// The value given.
        value: u16,
        /// Valid are the values below.
        count: u16,
    },
    /// A slice has not as many elements as the port.
    WrongLength {
        /// The port.
        name: Name,
        /// Elements of the port.
        need: usize,
        /// Elements of the slice.
        have: usize,
    },
    /// An input value is NaN or infinite.
    NotFinite {
        /// The port.
        name: Name,
        /// Position of the first such value.
        element: usize,
    },
    /// The call needs a port of another element type.
    WrongType {
        /// The port.
        name: Name,
    },
    /// The port's pixels are not next to each other, so it has no single slice.
    Strided {
        /// The port.
        name: Name,
    },
    /// The entry point reads an input that was not written since a run used its memory.
    InputNotWritten {
        /// The port.
        name: Name,
    },
    /// An entry point is under way.
    Running,
    /// A program was given another number of networks than it calls.
    WrongNets {
        /// What it calls.
        need: usize,
        /// What was given.
        have: usize,
    },
    /// A plan has not the ports, scales or rows that the program expects of its network.
    WrongNet {
        /// The program's name for the network.
        net: Name,
        /// The plan.
        plan: Name,
    },
    /// A lane of a program that nobody has written.
    LaneNotWritten {
        /// The lane.
        lane: Name,
    },
    /// An entry point of a program reads a lane that nobody has written.
    LaneMissing {
        /// The entry point.
        entry: Name,
        /// The lane.
        lane: Name,
    },
    /// A program has no entry point of that name or number.
    NoEntry {
        /// The program.
        program: Name,
        /// The name, or the number in decimal.
        entry: Name,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RunError::ArenaTooSmall { need_bytes, have_bytes } => write!(
                f,
                "the arena has {have_bytes} bytes and the model needs {need_bytes}: give it {} more",
                need_bytes.saturating_sub(have_bytes)
            ),
            RunError::ArenaMisaligned { skip_bytes } => write!(
                f,
                "the arena starts {skip_bytes} bytes before a multiple of 16: skip them, or place the model in a flowlet::Arena"
            ),
            RunError::NoKernel { isa, step } => write!(
                f,
                "step {step} is packed for {}, whose kernels are not in this build or do not run on this processor: \
                 lower the model for this machine",
                isa.name()
            ),
            RunError::TooManyIndices { have } => write!(
                f,
                "the model has {have} index inputs and the executor holds {}: use generated code",
                crate::MAX_INDICES
            ),
            RunError::Unknown { kind, name } => write!(f, "the model has no {kind} \"{name}\""),
            RunError::IndexOutOfRange { name, value, count } => {
                write!(f, "{name} = {value} is out of range: valid are 0 to {}", count.saturating_sub(1))
            }
            RunError::WrongLength { name, need, have } => {
                write!(f, "\"{name}\" has {need} elements and the slice has {have}: give exactly {need}")
            }
            RunError::NotFinite { name, element } => {
                write!(f, "element {element} of \"{name}\" is NaN or infinite: only finite numbers can be quantised")
            }
            RunError::WrongType { name } => {
                write!(f, "\"{name}\" does not hold s8 values: use the f32 functions")
            }
            RunError::Strided { name } => {
                write!(f, "\"{name}\" is a channel range of a wider tensor: copy it instead of borrowing it")
            }
            RunError::InputNotWritten { name } => write!(
                f,
                "input \"{name}\" was not written since the last run, which reuses its memory: write it before each run"
            ),
            RunError::WrongNets { need, have } => {
                write!(f, "the program calls {need} networks and {have} plans were given")
            }
            RunError::WrongNet { net, plan } => write!(
                f,
                "the plan \"{plan}\" has not the ports, scales or rows that the program expects of \"{net}\": build both from one program file"
            ),
            RunError::LaneNotWritten { lane } => {
                write!(f, "lane \"{lane}\" holds nothing yet: write it, or run the entry point that does")
            }
            RunError::LaneMissing { entry, lane } => write!(
                f,
                "entry point \"{entry}\" reads lane \"{lane}\", which holds nothing yet: write it, or run the entry point that does"
            ),
            RunError::NoEntry { program, entry } => {
                write!(f, "the program \"{program}\" has no entry point \"{entry}\"")
            }
            RunError::Running => write!(f, "an entry point is under way: step until it is done, or cancel it"),
        }
    }
}

impl core::error::Error for RunError {}

/// What a name was looked up among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Tensor inputs.
    Input,
    /// Index inputs.
    Index,
    /// Tensor outputs.
    Output,
    /// Entry points.
    Graph,
    /// Lanes of a program.
    Lane,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Input => "input",
            Kind::Index => "index input",
            Kind::Output => "output",
            Kind::Graph => "entry point",
            Kind::Lane => "lane",
        })
    }
}

/// A copy of a name, cut after 31 bytes, so that errors borrow nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; Name::CAPACITY],
    len: u8,
}

impl Name {
    const CAPACITY: usize = 31;

    /// Copies a name.
    pub fn new(name: &str) -> Name {
        let mut copy = Name { bytes: [0; Name::CAPACITY], len: 0 };
        let mut len = name.len().min(Name::CAPACITY);
        while !name.is_char_boundary(len) {
            len -= 1;
        }
        copy.bytes.iter_mut().zip(name.bytes()).take(len).for_each(|(place, byte)| *place = byte);
        copy.len = len as u8;
        copy
    }

    /// A number as a name.
    pub(crate) fn decimal(number: usize) -> Name {
        let mut digits = [b'0'; 20];
        let (mut rest, mut at) = (number, digits.len() - 1);
        while rest > 9 {
            digits[at] += (rest % 10) as u8;
            rest /= 10;
            at -= 1;
        }
        digits[at] += rest as u8;
        Name::new(core::str::from_utf8(&digits[at..]).unwrap_or(""))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
