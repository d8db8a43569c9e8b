//! How one value is stored in an Arrow column and read back, to the bit.
//!
//! A form knows one Rust type and one Arrow type; it knows no record and no table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Decimal128Array,
    Decimal128Builder, Float32Array, Float32Builder, Float64Array, Float64Builder, Int32Array, Int32Builder,
    Int64Array, Int64Builder, ListArray, StringArray, StringBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, TimeUnit};
use bytes::Bytes;

use crate::{Kind, Reason, SharedEntity, prediction::Status};

/// Name of the one field of a list, as Delta and Parquet have it.
pub(super) const ELEMENT: &str = "element";

/// The UTC time zone of all timestamps.
const UTC: &str = "UTC";

/// One way to store a `T`.
pub(super) trait Form<T>: 'static {
    /// Collects values.
    type Builder: Default + Send;
    /// What they become.
    type Stored: Array + Clone + 'static;

    /// The column's Arrow type.
    fn data_type() -> DataType;

    /// Whether the value can be stored.
    fn check(_value: &T) -> Result<(), &'static str> {
        Ok(())
    }

    /// Appends a value that `check` has passed.
    fn append(builder: &mut Self::Builder, value: &T);

    /// The values appended.
    fn finish(builder: &mut Self::Builder) -> Self::Stored;

    /// Reads one row; says what is wrong with it.
    fn read(stored: &Self::Stored, row: usize) -> Result<T, String>;
}

/// The value as it is.
pub(super) struct Plain;
/// Milliseconds as a UTC timestamp; null is `i64::MIN` ("not known").
pub(super) struct Time;
/// Milliseconds as a UTC timestamp; null is 0 ("none").
pub(super) struct TimeOrZero;
/// Ten-thousandths ([`crate::entity::VALUE_PARTS`]) as a decimal of as many digits.
pub(super) struct Parts;
/// A [`Kind`]'s number, by its name.
pub(super) struct KindName;
/// A [`SharedEntity`]'s number, by its name.
pub(super) struct EntityName;
/// A hash, as 16 hex digits.
pub(super) struct Hex;
/// Floats as a list; null is the canonical NaN ("missing").
pub(super) struct Floats;

fn absent(stored: &dyn Array, row: usize) -> Result<(), String> {
    if stored.is_null(row) { Err("null where a value is needed".into()) } else { Ok(()) }
}

macro_rules! plain_numbers {
    ($($type:ty => $builder:ty, $stored:ty, $data_type:ident, $as:ty;)*) => {$(
        impl Form<$type> for Plain {
            type Builder = $builder;
            type Stored = $stored;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn append(builder: &mut $builder, value: &$type) {
                builder.append_value(*value as $as);
            }

            fn finish(builder: &mut $builder) -> $stored {
                builder.finish()
            }

            fn read(stored: &$stored, row: usize) -> Result<$type, String> {
                absent(stored, row)?;
                Ok(stored.value(row) as $type)
            }
        }
    )*};
}
plain_numbers! {
    i32 => Int32Builder, Int32Array, Int32, i32;
    i64 => Int64Builder, Int64Array, Int64, i64;
    u32 => Int64Builder, Int64Array, Int64, i64;
    u64 => Int64Builder, Int64Array, Int64, i64;
    f32 => Float32Builder, Float32Array, Float32, f32;
    f64 => Float64Builder, Float64Array, Float64, f64;
}

/// A number that not every record has; null is none.
impl Form<Option<i64>> for Plain {
    type Builder = Int64Builder;
    type Stored = Int64Array;

    fn data_type() -> DataType {
        DataType::Int64
    }

    fn append(builder: &mut Int64Builder, value: &Option<i64>) {
        builder.append_option(*value);
    }

    fn finish(builder: &mut Int64Builder) -> Int64Array {
        builder.finish()
    }

    fn read(stored: &Int64Array, row: usize) -> Result<Option<i64>, String> {
        Ok((!stored.is_null(row)).then(|| stored.value(row)))
    }
}

impl Form<bool> for Plain {
    type Builder = BooleanBuilder;
    type Stored = BooleanArray;

    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn append(builder: &mut BooleanBuilder, value: &bool) {
        builder.append_value(*value);
    }

    fn finish(builder: &mut BooleanBuilder) -> BooleanArray {
        builder.finish()
    }

    fn read(stored: &BooleanArray, row: usize) -> Result<bool, String> {
        absent(stored, row)?;
        Ok(stored.value(row))
    }
}

/// Text; null is the empty text ("not given").
impl Form<String> for Plain {
    type Builder = StringBuilder;
    type Stored = StringArray;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn append(builder: &mut StringBuilder, value: &String) {
        builder.append_option((!value.is_empty()).then_some(value));
    }

    fn finish(builder: &mut StringBuilder) -> StringArray {
        builder.finish()
    }

    fn read(stored: &StringArray, row: usize) -> Result<String, String> {
        Ok(if stored.is_null(row) { String::new() } else { stored.value(row).to_owned() })
    }
}

/// Bytes as they came; no bytes are null, empty ones are empty.
impl Form<Option<Vec<u8>>> for Plain {
    type Builder = BinaryBuilder;
    type Stored = BinaryArray;

    fn data_type() -> DataType {
        DataType::Binary
    }

    fn append(builder: &mut BinaryBuilder, value: &Option<Vec<u8>>) {
        builder.append_option(value.as_deref());
    }

    fn finish(builder: &mut BinaryBuilder) -> BinaryArray {
        builder.finish()
    }

    fn read(stored: &BinaryArray, row: usize) -> Result<Option<Vec<u8>>, String> {
        Ok((!stored.is_null(row)).then(|| stored.value(row).to_vec()))
    }
}

/// Columns of names from a closed set.
macro_rules! named {
    ($($form:ident for $type:ty: $write:expr, $read:expr;)*) => {$(
        impl Form<$type> for $form {
            type Builder = StringBuilder;
            type Stored = StringArray;

            fn data_type() -> DataType {
                DataType::Utf8
            }

            fn append(builder: &mut StringBuilder, value: &$type) {
                let write: fn(&mut StringBuilder, $type) = $write;
                write(builder, *value);
            }

            fn finish(builder: &mut StringBuilder) -> StringArray {
                builder.finish()
            }

            fn read(stored: &StringArray, row: usize) -> Result<$type, String> {
                absent(stored, row)?;
                let read: fn(&str) -> Option<$type> = $read;
                let text = stored.value(row);
                read(text).ok_or_else(|| format!("{text:?} is none of the names known"))
            }
        }
    )*};
}
named! {
    Plain for Status:
        |builder, status| builder.append_value(status.as_str()),
        |text| [Status::Scored, Status::Fallback].into_iter().find(|status| status.as_str() == text);
    Plain for Reason:
        |builder, reason| builder.append_value(reason.as_str()),
        Reason::parse;
    KindName for i32:
        |builder, kind| match Kind::try_from(kind) {
            Ok(known) => builder.append_value(known.as_str()),
            // A newer writer's: kept by number, so that the record can be had back.
            Err(_) => builder.append_value(format!("kind_{kind}")),
        },
        |text| match Kind::parse(text) {
            Some(known) => Some(known as i32),
            None if text == Kind::Unknown.as_str() => Some(Kind::Unknown as i32),
            None => text.strip_prefix("kind_")?.parse().ok(),
        };
    EntityName for i32:
        |builder, entity| match SharedEntity::try_from(entity) {
            Ok(known) => builder.append_value(known.as_str()),
            Err(_) => builder.append_value(format!("entity_{entity}")),
        },
        |text| match SharedEntity::parse(text) {
            Some(known) => Some(known as i32),
            None => text.strip_prefix("entity_")?.parse().ok(),
        };
    Hex for u64:
        |builder, hash| builder.append_value(format!("{hash:016x}")),
        |text| u64::from_str_radix(text, 16).ok();
}

macro_rules! times {
    ($($form:ident, $none:expr;)*) => {$(
        impl Form<i64> for $form {
            type Builder = TimestampMicrosecondBuilder;
            type Stored = TimestampMicrosecondArray;

            fn data_type() -> DataType {
                DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
            }

            fn check(value: &i64) -> Result<(), &'static str> {
                if *value == $none || value.checked_mul(1_000).is_some() {
                    Ok(())
                } else {
                    Err("a time is out of the range of microseconds in 64 bits")
                }
            }

            fn append(builder: &mut TimestampMicrosecondBuilder, value: &i64) {
                builder.append_option((*value != $none).then(|| value.saturating_mul(1_000)));
            }

            fn finish(builder: &mut TimestampMicrosecondBuilder) -> TimestampMicrosecondArray {
                builder.finish().with_timezone(UTC)
            }

            fn read(stored: &TimestampMicrosecondArray, row: usize) -> Result<i64, String> {
                if stored.is_null(row) {
                    return Ok($none);
                }
                let micros = stored.value(row);
                if micros % 1_000 == 0 {
                    Ok(micros / 1_000)
                } else {
                    Err(format!("{micros} µs are not whole milliseconds"))
                }
            }
        }
    )*};
}
times! {
    Time, i64::MIN;
    TimeOrZero, 0;
}

impl Form<i64> for Parts {
    type Builder = Decimal128Builder;
    type Stored = Decimal128Array;

    fn data_type() -> DataType {
        // All of 64 bits.
        DataType::Decimal128(19, 4)
    }

    fn append(builder: &mut Decimal128Builder, value: &i64) {
        builder.append_value(i128::from(*value));
    }

    fn finish(builder: &mut Decimal128Builder) -> Decimal128Array {
        builder.finish().with_data_type(<Self as Form<i64>>::data_type())
    }

    fn read(stored: &Decimal128Array, row: usize) -> Result<i64, String> {
        absent(stored, row)?;
        let value = stored.value(row);
        i64::try_from(value).map_err(|_| format!("{value} ten-thousandths are out of the range of 64 bits"))
    }
}

/// Collects lists of floats.
pub(super) struct FloatLists {
    ends: Vec<i32>,
    values: Float32Builder,
}

impl Default for FloatLists {
    fn default() -> Self {
        Self { ends: vec![0], values: Float32Builder::new() }
    }
}

impl FloatLists {
    fn push(&mut self, value: f32) {
        self.values.append_option(present(value));
    }

    fn close(&mut self) {
        self.ends.push(arrow::array::ArrayBuilder::len(&self.values) as i32);
    }

    fn finish(&mut self) -> ListArray {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        ListArray::new(
            element(DataType::Float32),
            OffsetBuffer::new(ScalarBuffer::from(ends)),
            Arc::new(self.values.finish()),
            None,
        )
    }
}

/// A missing number is null. Only the canonical NaN means that: any other is kept as it is, for
/// a row must give back its record's bits.
pub(super) fn present(value: f32) -> Option<f32> {
    (value.to_bits() != f32::NAN.to_bits()).then_some(value)
}

/// The field of a list.
pub(super) fn element(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new(ELEMENT, data_type, true))
}

fn float_list(stored: &ListArray, row: usize) -> Result<Vec<f32>, String> {
    let slice = list(stored, row);
    let Some(numbers) = slice.as_any().downcast_ref::<Float32Array>() else {
        return Err("a list of something other than Float32".into());
    };
    Ok(numbers.iter().map(|number| number.unwrap_or(f32::NAN)).collect())
}

/// The elements of a row; none where it is null.
pub(super) fn list(stored: &ListArray, row: usize) -> ArrayRef {
    if stored.is_null(row) { stored.values().slice(0, 0) } else { stored.value(row) }
}

impl Form<Vec<f32>> for Floats {
    type Builder = FloatLists;
    type Stored = ListArray;

    fn data_type() -> DataType {
        DataType::List(element(DataType::Float32))
    }

    fn append(builder: &mut FloatLists, value: &Vec<f32>) {
        for number in value {
            builder.push(*number);
        }
        builder.close();
    }

    fn finish(builder: &mut FloatLists) -> ListArray {
        builder.finish()
    }

    fn read(stored: &ListArray, row: usize) -> Result<Vec<f32>, String> {
        float_list(stored, row)
    }
}

/// A little-endian block of floats.
impl Form<Bytes> for Floats {
    type Builder = FloatLists;
    type Stored = ListArray;

    fn data_type() -> DataType {
        <Self as Form<Vec<f32>>>::data_type()
    }

    fn check(value: &Bytes) -> Result<(), &'static str> {
        if value.len().is_multiple_of(4) { Ok(()) } else { Err("a block of floats has a ragged end") }
    }

    fn append(builder: &mut FloatLists, value: &Bytes) {
        crate::vector::floats(value).for_each(|number| builder.push(number));
        builder.close();
    }

    fn finish(builder: &mut FloatLists) -> ListArray {
        builder.finish()
    }

    fn read(stored: &ListArray, row: usize) -> Result<Bytes, String> {
        Ok(float_list(stored, row)?.into_iter().flat_map(f32::to_le_bytes).collect())
    }
}
