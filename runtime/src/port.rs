//! Reading and writing the tensors at the edges of a model, whatever their pitch.
//!
//! Elements are in NHWC order. The functions take the arena's bytes and the port, so that generated code and the
//! executor share them. They do not panic: a port outside the arena is an error.

use crate::error::{Name, RunError};
use crate::kernels::noise;
use crate::kernels::port::{dequantise, quantise_finite};
use crate::plan::{DType, Port, Slot};

/// Quantises real numbers into a port.
///
/// # Errors
/// A wrong number of values, or the first that is NaN or infinite; the port's bytes are then unchanged.
pub fn write_f32(arena: &mut [i8], port: &Port<'_>, values: &[f32]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    if let Some(element) = values.iter().position(|x| !x.is_finite()) {
        return Err(RunError::NotFinite { name: Name::new(port.name), element });
    }
    let mut values = values.iter().copied();
    store(arena, port, || values.next().unwrap_or(0.0))
}

/// Quantises a program's numbers into a port: those that are not finite saturate, NaN to the lowest value.
///
/// # Errors
/// A wrong number of values.
pub fn write_saturated(arena: &mut [i8], port: &Port<'_>, values: &[f32]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    let mut values = values.iter().copied();
    store(arena, port, || values.next().unwrap_or(0.0))
}

/// Copies quantised values into a port.
///
/// # Errors
/// A wrong number of values, or a port that does not hold s8.
pub fn write_s8(arena: &mut [i8], port: &Port<'_>, values: &[i8]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    check_s8(port)?;
    let rows = values.chunks(usize::from(port.slot.channels).max(1));
    for (pixel, row) in pixels_mut(arena, &port.slot)?.zip(rows) {
        pixel.iter_mut().zip(row).for_each(|(place, &q)| *place = q);
    }
    Ok(())
}

/// Fills a port with standard normal noise; `stream` tells ports and steps apart that share a seed.
///
/// Element `i` is [`noise::element`]`(seed, stream, i)` whatever the pitch.
///
/// # Errors
/// A port outside the arena.
pub fn fill_noise(arena: &mut [i8], port: &Port<'_>, seed: u64, stream: u32) -> Result<(), RunError> {
    if matches!(port.slot.dtype, DType::S8) && port.slot.is_contiguous() {
        let place = bytes_mut(arena, &port.slot)?;
        noise::fill_s8(place, seed, stream, port.inverse_scale, port.quant.zero_point);
        return Ok(());
    }
    let mut index = 0;
    store(arena, port, || {
        index += 1;
        noise::element_f32(seed, stream, index - 1)
    })
}

/// Reads a port as real numbers.
///
/// # Errors
/// A slice of another length than the port.
pub fn read_f32(arena: &[i8], port: &Port<'_>, values: &mut [f32]) -> Result<(), RunError> {
    check_length(port, values.len())?;
    let rows = values.chunks_mut(usize::from(port.slot.channels).max(1));
    for (pixel, row) in pixels(arena, &port.slot)?.zip(rows) {
        match port.slot.dtype {
            DType::S8 => {
                for (x, &q) in row.iter_mut().zip(pixel) {
                    *x = dequantise(q, port.quant.scale, port.quant.zero_point);
                }
            }
            DType::F32 => {
                for (x, bytes) in row.iter_mut().zip(pixel.as_chunks().0) {
                    *x = f32::from_le_bytes(bytes.map(|byte: i8| byte as u8));
                }
            }
        }
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
    let rows = values.chunks_mut(usize::from(port.slot.channels).max(1));
    for (pixel, row) in pixels(arena, &port.slot)?.zip(rows) {
        row.iter_mut().zip(pixel).for_each(|(place, &q)| *place = q);
    }
    Ok(())
}

/// The quantised values of a port, in place.
///
/// # Errors
/// A port that does not hold s8, or whose pixels are not next to each other.
pub fn borrow<'a>(arena: &'a [i8], port: &Port<'_>) -> Result<&'a [i8], RunError> {
    check_slice(port)?;
    bytes(arena, &port.slot)
}

/// The quantised values of a port, to be written in place.
///
/// # Errors
/// As [`borrow`].
pub fn borrow_mut<'a>(arena: &'a mut [i8], port: &Port<'_>) -> Result<&'a mut [i8], RunError> {
    check_slice(port)?;
    bytes_mut(arena, &port.slot)
}

/// Stores finite numbers by the port rule, as many as there are elements.
fn store(arena: &mut [i8], port: &Port<'_>, mut next: impl FnMut() -> f32) -> Result<(), RunError> {
    for pixel in pixels_mut(arena, &port.slot)? {
        match port.slot.dtype {
            DType::S8 => {
                for q in pixel {
                    *q = quantise_finite(next(), port.inverse_scale, port.quant.zero_point);
                }
            }
            DType::F32 => {
                for bytes in pixel.as_chunks_mut().0 {
                    *bytes = next().to_le_bytes().map(|byte| byte as i8);
                }
            }
        }
    }
    Ok(())
}

/// The bytes of each pixel, without the gaps.
pub(crate) fn pixels<'a>(arena: &'a [i8], slot: &Slot) -> Result<impl Iterator<Item = &'a [i8]> + use<'a>, RunError> {
    let (pitch, width) = pixel_bytes(slot);
    Ok(bytes(arena, slot)?.chunks(pitch).map(move |pixel| pixel.get(..width).unwrap_or(pixel)))
}

fn pixels_mut<'a>(arena: &'a mut [i8], slot: &Slot) -> Result<impl Iterator<Item = &'a mut [i8]> + use<'a>, RunError> {
    let (pitch, width) = pixel_bytes(slot);
    let chunks = bytes_mut(arena, slot)?.chunks_mut(pitch);
    Ok(chunks.map(move |pixel| if pixel.len() > width { pixel.split_at_mut(width).0 } else { pixel }))
}

/// Bytes from pixel to pixel, and of one pixel.
fn pixel_bytes(slot: &Slot) -> (usize, usize) {
    let size = slot.dtype.size_bytes();
    ((usize::from(slot.pitch) * size).max(1), usize::from(slot.channels) * size)
}

fn bytes<'a>(arena: &'a [i8], slot: &Slot) -> Result<&'a [i8], RunError> {
    let have_bytes = arena.len();
    arena.get(slot.offset as usize..slot.end()).ok_or(RunError::ArenaTooSmall { need_bytes: slot.end(), have_bytes })
}

fn bytes_mut<'a>(arena: &'a mut [i8], slot: &Slot) -> Result<&'a mut [i8], RunError> {
    let have_bytes = arena.len();
    arena
        .get_mut(slot.offset as usize..slot.end())
        .ok_or(RunError::ArenaTooSmall { need_bytes: slot.end(), have_bytes })
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
    if port.slot.is_contiguous() { Ok(()) } else { Err(RunError::Strided { name: Name::new(port.name) }) }
}
