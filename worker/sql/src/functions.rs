//! [pure] Scalar functions with Flink's semantics, evaluated a column at a time.
//!
//! A [`Native`] is one call with everything constant (patterns, regular expressions, types) prepared at planning
//! time. Kernels write into one output builder and allocate nothing per row.

pub(crate) mod choice;
pub(crate) mod map;
pub(crate) mod number;
pub(crate) mod row;
pub(crate) mod text;
pub(crate) mod time;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringArray, StringBuilder};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, expr::ScalarFunction};

use crate::coerce::Typed;

/// What a kernel is: arguments and the number of rows to a column.
pub(crate) type Kernel = Arc<dyn Fn(&[ColumnarValue], usize) -> Result<ArrayRef> + Send + Sync>;

/// A function call prepared for its constants.
pub(crate) struct Native {
    name: String,
    result: DataType,
    signature: Signature,
    kernel: Kernel,
}

/// A call of `name`, which computes `kernel` over `args`. Two calls are equal when name, type and arguments are: what
/// a kernel captures must follow from these.
pub(crate) fn call(
    name: &str,
    args: Vec<Expr>,
    result: DataType,
    kernel: impl Fn(&[ColumnarValue], usize) -> Result<ArrayRef> + Send + Sync + 'static,
) -> Typed {
    let native = Native {
        name: name.into(),
        result: result.clone(),
        signature: Signature::variadic_any(Volatility::Immutable),
        kernel: Arc::new(kernel),
    };
    let udf = Arc::new(ScalarUDF::new_from_impl(native));
    Typed::new(Expr::ScalarFunction(ScalarFunction::new_udf(udf, args)), result)
}

impl ScalarUDFImpl for Native {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let array = (self.kernel)(&args.args, rows)?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.result == other.result
    }
}

impl Eq for Native {}

impl Hash for Native {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.result).hash(state);
    }
}

/// A string argument.
pub(crate) enum Text<'a> {
    One(Option<&'a str>),
    Many(&'a StringArray),
}

impl<'a> Text<'a> {
    pub(crate) fn of(value: &'a ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => Ok(Self::One(text.as_deref())),
            ColumnarValue::Array(array) => array.as_string_opt().map(Self::Many).ok_or_else(|| unexpected(array.data_type())),
            ColumnarValue::Scalar(other) => Err(unexpected(&other.data_type())),
        }
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::One(text) => *text,
            Self::Many(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }

    /// Bytes of all values, to size an output.
    pub(crate) fn bytes(&self, rows: usize) -> usize {
        match self {
            Self::One(text) => text.map_or(0, str::len) * rows,
            Self::Many(array) => array.value_data().len(),
        }
    }
}

/// An argument of a primitive type.
pub(crate) enum Values<'a, T: ArrowPrimitiveType> {
    One(Option<T::Native>),
    Many(&'a PrimitiveArray<T>),
}

impl<'a, T: ArrowPrimitiveType> Values<'a, T> {
    pub(crate) fn of(value: &'a ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Array(array) => array.as_primitive_opt().map(Self::Many).ok_or_else(|| unexpected(array.data_type())),
            ColumnarValue::Scalar(scalar) => {
                let array = scalar.to_array()?;
                let array = array.as_primitive_opt::<T>().ok_or_else(|| unexpected(array.data_type()))?;
                Ok(Self::One(array.is_valid(0).then(|| array.value(0))))
            }
        }
    }

    /// Applies a function that cannot fail on any value; slots of nulls are computed too, which is faster than asking.
    pub(crate) fn map<O: ArrowPrimitiveType>(&self, rows: usize, f: impl Fn(T::Native) -> O::Native) -> PrimitiveArray<O> {
        match self {
            Self::One(value) => {
                let value = value.map(f);
                values(rows, |_| value)
            }
            Self::Many(array) => array.unary(f),
        }
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<T::Native> {
        match self {
            Self::One(value) => *value,
            Self::Many(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// The binder casts arguments, so another type is our own mistake.
fn unexpected(ty: &DataType) -> DataFusionError {
    DataFusionError::Internal(format!("a function got an argument of type {ty}"))
}

/// A string column of `rows` slices.
pub(crate) fn slices<'a>(rows: usize, bytes: usize, value: impl Fn(usize) -> Option<&'a str>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows, bytes);
    for row in 0..rows {
        builder.append_option(value(row));
    }
    Arc::new(builder.finish())
}

/// A string column; `write` appends a row's text to the scratch and says whether it is not null.
pub(crate) fn texts(rows: usize, bytes: usize, mut write: impl FnMut(usize, &mut String) -> bool) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows, bytes);
    let mut scratch = String::new();
    for row in 0..rows {
        scratch.clear();
        match write(row, &mut scratch) {
            true => builder.append_value(&scratch),
            false => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

/// A primitive column.
pub(crate) fn values<T: ArrowPrimitiveType>(rows: usize, value: impl Fn(usize) -> Option<T::Native>) -> PrimitiveArray<T> {
    (0..rows).map(value).collect()
}
