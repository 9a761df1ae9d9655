//! Reading and writing the tensors at the edges of a model, whatever their pitch.
//!
//! Elements are in NHWC order. The functions take the arena's bytes and the port, so that generated code and the
//! executor share them.

use crate::error::{Name, RunError};
use crate::kernels::{noise, port::dequantise, port::quantise};
use crate::plan::{DType, Port, Slot};

/// Whether the pixels of a tensor lie next to each other, so that it is one slice.
pub const fn is_contiguous(slot: &Slot) -> bool {
    slot.pitch == slot.channels || slot.pixels() == 1
}

/// Quantises real numbers into a port.
///
/// # Errors
/// A wrong number of values, or the first that is NaN or infinite; the port's bytes are then unchanged.
pub fn write_f32(arena: &mut [i8], port: &Port<'_>, values: &[f32]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    if let Some(element) = values.iter().position(|x| !x.is_finite()) {
        return Err(RunError::NotFinite { name: Name::new(port.name), element });
    }
    for (place, &x) in places(&port.slot).zip(values) {
        match port.slot.dtype {
            DType::S8 => {
                // Finite by the test above.
                if let Some(q) = quantise(x, port.inverse_scale, port.quant.zero_point) {
                    arena[place] = q;
                }
            }
            DType::F32 => {
                for (byte, value) in arena[place..place + 4].iter_mut().zip(x.to_le_bytes()) {
                    *byte = value as i8;
                }
            }
        }
    }
    Ok(())
}

/// Copies quantised values into a port.
///
/// # Errors
/// A wrong number of values, or a port that does not hold s8.
pub fn write_s8(arena: &mut [i8], port: &Port<'_>, values: &[i8]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    check_s8(port)?;
    for (place, &q) in places(&port.slot).zip(values) {
        arena[place] = q;
    }
    Ok(())
}

/// Fills a port with standard normal noise; `stream` tells ports and steps apart that share a seed.
///
/// Element `i` is [`noise::element`]`(seed, stream, i)` whatever the pitch.
pub fn fill_noise(arena: &mut [i8], port: &Port<'_>, seed: u64, stream: u32) {
    let slot = &port.slot;
    match slot.dtype {
        DType::S8 if is_contiguous(slot) => {
            noise::fill_s8(&mut arena[range(slot)], seed, stream, port.inverse_scale, port.quant.zero_point);
        }
        DType::S8 | DType::F32 => {
            for (index, place) in (0u32..).zip(places(slot)) {
                let x = noise::element_f32(seed, stream, index);
                match slot.dtype {
                    DType::S8 => {
                        arena[place] =
                            crate::kernels::port::quantise_finite(x, port.inverse_scale, port.quant.zero_point);
                    }
                    DType::F32 => {
                        for (byte, value) in arena[place..place + 4].iter_mut().zip(x.to_le_bytes()) {
                            *byte = value as i8;
                        }
                    }
                }
            }
        }
    }
}

/// Reads a port as real numbers.
///
/// # Errors
/// A slice of another length than the port.
pub fn read_f32(arena: &[i8], port: &Port<'_>, values: &mut [f32]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    for (place, x) in places(&port.slot).zip(values) {
        *x = match port.slot.dtype {
            DType::S8 => dequantise(arena[place], port.quant.scale, port.quant.zero_point),
            DType::F32 => f32::from_le_bytes(core::array::from_fn(|k| arena[place + k] as u8)),
        };
    }
    Ok(())
}

/// Copies the quantised values of a port.
///
/// # Errors
/// A slice of another length than the port, or a port that does not hold s8.
pub fn read_s8(arena: &[i8], port: &Port<'_>, values: &mut [i8]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    check_s8(port)?;
    for (place, q) in places(&port.slot).zip(values) {
        *q = arena[place];
    }
    Ok(())
}

/// The quantised values of a port, in place.
///
/// # Errors
/// A port that does not hold s8, or whose pixels are not next to each other.
pub fn borrow<'a>(arena: &'a [i8], port: &Port<'_>) -> Result<&'a [i8], RunError> {
    check_slice(port)?;
    Ok(&arena[range(&port.slot)])
}

/// The quantised values of a port, to be written in place.
///
/// # Errors
/// As [`borrow`].
pub fn borrow_mut<'a>(arena: &'a mut [i8], port: &Port<'_>) -> Result<&'a mut [i8], RunError> {
    check_slice(port)?;
    Ok(&mut arena[range(&port.slot)])
}

/// First byte of each element, in NHWC order.
pub(crate) fn places(slot: &Slot) -> impl Iterator<Item = usize> + use<> {
    let slot = *slot;
    let size = slot.dtype.size_bytes();
    (0..slot.pixels()).flat_map(move |pixel| {
        let first = slot.offset as usize + pixel * usize::from(slot.pitch) * size;
        (0..usize::from(slot.channels)).map(move |channel| first + channel * size)
    })
}

fn range(slot: &Slot) -> core::ops::Range<usize> {
    slot.offset as usize..slot.end()
}

fn check_length(port: &Port<'_>, have: usize) -> Result<(), RunError> {
    let need = port.slot.elements();
    if need == have { Ok(()) } else { Err(RunError::WrongLength { name: Name::new(port.name), need, have }) }
}

fn check_s8(port: &Port<'_>) -> Result<(), RunError> {
    match port.slot.dtype {
        DType::S8 => Ok(()),
        DType::F32 => Err(RunError::WrongType { name: Name::new(port.name) }),
    }
}

fn check_slice(port: &Port<'_>) -> Result<(), RunError> {
    check_s8(port)?;
    if is_contiguous(&port.slot) { Ok(()) } else { Err(RunError::Strided { name: Name::new(port.name) }) }
}
