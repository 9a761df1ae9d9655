//! Types and constant tensors.

pub use flowlet_plan::Quant;

/// Element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// 64-bit signed integer: indices and shapes.
    I64,
    /// 32-bit signed integer: biases and multipliers.
    I32,
    /// 8-bit signed integer: quantised activations, weights and tables.
    S8,
}

impl DType {
    /// The name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::S8 => "s8",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [DType::F32, DType::I64, DType::I32, DType::S8].into_iter().find(|d| d.name() == name)
    }

    /// Size of one element in bytes.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::I64 => 8,
            DType::S8 => 1,
        }
    }
}

/// Element type, dimensions and (for s8 activations) quantisation of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Dimensions in ONNX order.
    pub dims: Vec<usize>,
    /// Scale and zero point of an s8 activation.
    pub quant: Option<Quant>,
}

impl Type {
    /// An unquantised type.
    pub fn new(dtype: DType, dims: &[usize]) -> Self {
        Type { dtype, dims: dims.to_vec(), quant: None }
    }

    /// An f32 type.
    pub fn f32(dims: &[usize]) -> Self {
        Type::new(DType::F32, dims)
    }

    /// A quantised s8 type.
    pub fn s8(dims: &[usize], quant: Quant) -> Self {
        Type { dtype: DType::S8, dims: dims.to_vec(), quant: Some(quant) }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Elements of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// f32 elements.
    F32(Vec<f32>),
    /// i64 elements.
    I64(Vec<i64>),
    /// i32 elements.
    I32(Vec<i32>),
    /// s8 elements.
    S8(Vec<i8>),
}

/// A dense constant in row-major ONNX order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions; their product is the number of elements.
    pub dims: Vec<usize>,
    /// Elements.
    pub data: Data,
}

impl Tensor {
    /// An f32 tensor.
    pub fn f32(dims: &[usize], data: Vec<f32>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        Tensor { dims: dims.to_vec(), data: Data::F32(data) }
    }

    /// An i64 tensor.
    pub fn i64(dims: &[usize], data: Vec<i64>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        Tensor { dims: dims.to_vec(), data: Data::I64(data) }
    }

    /// An i32 tensor.
    pub fn i32(dims: &[usize], data: Vec<i32>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        Tensor { dims: dims.to_vec(), data: Data::I32(data) }
    }

    /// An s8 tensor.
    pub fn s8(dims: &[usize], data: Vec<i8>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        Tensor { dims: dims.to_vec(), data: Data::S8(data) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self.data {
            Data::F32(_) => DType::F32,
            Data::I64(_) => DType::I64,
            Data::I32(_) => DType::I32,
            Data::S8(_) => DType::S8,
        }
    }

    /// The unquantised type.
    pub fn ty(&self) -> Type {
        Type::new(self.dtype(), &self.dims)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        match &self.data {
            Data::F32(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::S8(v) => v.len(),
        }
    }

    /// The elements, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            Data::I64(_) | Data::I32(_) | Data::S8(_) => None,
        }
    }

    /// The elements, if they are i64.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            Data::I64(v) => Some(v),
            Data::F32(_) | Data::I32(_) | Data::S8(_) => None,
        }
    }

    /// The elements, if they are i32.
    pub fn as_i32(&self) -> Option<&[i32]> {
        match &self.data {
            Data::I32(v) => Some(v),
            Data::F32(_) | Data::I64(_) | Data::S8(_) => None,
        }
    }

    /// The elements, if they are s8.
    pub fn as_s8(&self) -> Option<&[i8]> {
        match &self.data {
            Data::S8(v) => Some(v),
            Data::F32(_) | Data::I64(_) | Data::I32(_) => None,
        }
    }

    /// The elements as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match &self.data {
            Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::S8(v) => v.iter().map(|&x| x as u8).collect(),
        }
    }

    /// The tensor whose little-endian bytes these are; `None` when the length does not match the type.
    pub fn from_le_bytes(ty: &Type, bytes: &[u8]) -> Option<Self> {
        if ty.dims.iter().try_fold(ty.dtype.size_bytes(), |n, &d| n.checked_mul(d))? != bytes.len() {
            return None;
        }
        let words = || bytes.chunks_exact(4).map(|c| [c[0], c[1], c[2], c[3]]);
        let data = match ty.dtype {
            DType::F32 => Data::F32(words().map(f32::from_le_bytes).collect()),
            DType::I32 => Data::I32(words().map(i32::from_le_bytes).collect()),
            DType::I64 => Data::I64(
                bytes
                    .chunks_exact(8)
                    .map(|c| i64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]))
                    .collect(),
            ),
            DType::S8 => Data::S8(bytes.iter().map(|&b| b as i8).collect()),
        };
        Some(Tensor { dims: ty.dims.clone(), data })
    }
}
