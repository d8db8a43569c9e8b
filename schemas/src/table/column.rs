//! Columns: a name, a comment, and how a record's field goes in and comes out.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields};

use super::form::{Form, element, list};

/// Key of a column's comment in its Arrow field's metadata (and in Delta's).
pub(super) const COMMENT: &str = "comment";

/// The cells of one column.
pub(super) trait Cells<R>: Send {
    /// Their Arrow type.
    fn data_type(&self) -> DataType;
    /// No elements of a list are null from now on.
    fn or_null(&mut self) {}
    /// Whether the record's value can be stored; asked of all columns before any appends.
    fn check(&self, record: &R) -> Result<(), &'static str>;
    /// Appends the record's value.
    fn append(&mut self, record: &R);
    /// The values appended.
    fn finish(&mut self) -> ArrayRef;
    /// Writes the array's values into the records, row by row.
    fn read(&self, array: &dyn Array, records: &mut [R]) -> Result<(), String>;
}

/// One column of a table of `R`.
pub(super) struct Column<R> {
    pub(super) name: String,
    pub(super) comment: String,
    pub(super) cells: Box<dyn Cells<R>>,
}

impl<R: 'static> Column<R> {
    /// A column of one field, stored as `F` says.
    pub(super) fn new<T: 'static, F: Form<T>>(
        name: &str,
        comment: &str,
        get: fn(&R) -> &T,
        set: fn(&mut R) -> &mut T,
        _form: PhantomData<F>,
    ) -> Self {
        let cells = FieldCells::<R, T, F> { get, set, builder: F::Builder::default() };
        Self { name: name.to_owned(), comment: comment.to_owned(), cells: Box::new(cells) }
    }

    /// A column of a list of structs.
    pub(super) fn structs<E: Default + 'static>(
        name: &str,
        comment: &str,
        get: fn(&R) -> &Vec<E>,
        set: fn(&mut R) -> &mut Vec<E>,
        columns: Vec<Column<E>>,
    ) -> Self {
        let cells = StructCells { get, set, columns, ends: vec![0], or_null: false };
        Self { name: name.to_owned(), comment: comment.to_owned(), cells: Box::new(cells) }
    }

    /// The same of a list: no elements are null, as they are in rows of before the column was there.
    pub(super) fn or_null(mut self) -> Self {
        self.cells.or_null();
        self
    }

    /// Its Arrow field, with the comment.
    pub(super) fn field(&self) -> Field {
        Field::new(&self.name, self.cells.data_type(), true)
            .with_metadata([(COMMENT.to_owned(), self.comment.clone())].into())
    }
}

struct FieldCells<R, T, F: Form<T>> {
    get: fn(&R) -> &T,
    set: fn(&mut R) -> &mut T,
    builder: F::Builder,
}

impl<R, T, F: Form<T>> Cells<R> for FieldCells<R, T, F> {
    fn data_type(&self) -> DataType {
        F::data_type()
    }

    fn check(&self, record: &R) -> Result<(), &'static str> {
        F::check((self.get)(record))
    }

    fn append(&mut self, record: &R) {
        F::append(&mut self.builder, (self.get)(record));
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(F::finish(&mut self.builder))
    }

    fn read(&self, array: &dyn Array, records: &mut [R]) -> Result<(), String> {
        let array = typed(array, &F::data_type())?;
        let Some(stored) = array.as_any().downcast_ref::<F::Stored>() else {
            return Err(format!("is {}, not {}", array.data_type(), F::data_type()));
        };
        for (row, record) in records.iter_mut().enumerate() {
            *(self.set)(record) = F::read(stored, row).map_err(|what| format!("row {row}: {what}"))?;
        }
        Ok(())
    }
}

struct StructCells<R, E> {
    get: fn(&R) -> &Vec<E>,
    set: fn(&mut R) -> &mut Vec<E>,
    columns: Vec<Column<E>>,
    ends: Vec<i32>,
    or_null: bool,
}

impl<R, E: 'static> StructCells<R, E> {
    /// Fields of a struct carry no comment: Delta keeps these at the top only.
    fn fields(&self) -> Fields {
        self.columns.iter().map(|column| Field::new(&column.name, column.cells.data_type(), true)).collect()
    }
}

impl<R, E: Default + 'static> Cells<R> for StructCells<R, E> {
    fn data_type(&self) -> DataType {
        DataType::List(element(DataType::Struct(self.fields())))
    }

    fn or_null(&mut self) {
        self.or_null = true;
    }

    fn check(&self, record: &R) -> Result<(), &'static str> {
        let mut elements = (self.get)(record).iter();
        elements.try_for_each(|each| self.columns.iter().try_for_each(|column| column.cells.check(each)))
    }

    fn append(&mut self, record: &R) {
        let elements = (self.get)(record);
        for column in &mut self.columns {
            for each in elements {
                column.cells.append(each);
            }
        }
        let before = self.ends.last().copied().unwrap_or(0);
        self.ends.push(before + elements.len() as i32);
    }

    fn finish(&mut self) -> ArrayRef {
        let fields = self.fields();
        let columns = self.columns.iter_mut().map(|column| column.cells.finish()).collect();
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let nulls = self.or_null.then(|| ends.windows(2).map(|row| row[0] < row[1]).collect());
        Arc::new(ListArray::new(
            element(DataType::Struct(fields.clone())),
            OffsetBuffer::new(ScalarBuffer::from(ends)),
            Arc::new(StructArray::new(fields, columns, None)),
            nulls,
        ))
    }

    fn read(&self, array: &dyn Array, records: &mut [R]) -> Result<(), String> {
        let Some(lists) = array.as_any().downcast_ref::<ListArray>() else {
            return Err(format!("is {}, not a list of structs", array.data_type()));
        };
        for (row, record) in records.iter_mut().enumerate() {
            let slice = list(lists, row);
            let Some(structs) = slice.as_any().downcast_ref::<StructArray>() else {
                return Err(format!("is a list of {}, not of structs", slice.data_type()));
            };
            let mut elements: Vec<E> = (0..structs.len()).map(|_| E::default()).collect();
            for column in &self.columns {
                let Some(child) = structs.column_by_name(&column.name) else {
                    return Err(format!("field {} is absent", column.name));
                };
                let read = column.cells.read(child.as_ref(), &mut elements);
                read.map_err(|what| format!("row {row}, field {}: {what}", column.name))?;
            }
            *(self.set)(record) = elements;
        }
        Ok(())
    }
}

/// The array in the type wanted: readers may hand out views, dictionaries or large offsets.
pub(super) fn typed(array: &dyn Array, wanted: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == wanted {
        return Ok(array.slice(0, array.len()));
    }
    arrow::compute::cast(array, wanted)
        .map_err(|error| format!("is {}, not {wanted}: {error}", array.data_type()))
}

/// `columns![Record; "name" Form = path.to.field, "comment"; ...]`
macro_rules! columns {
    ($record:ty; $($name:literal $form:ty = $($path:ident).+, $comment:literal;)*) => {
        vec![$($crate::table::column::Column::<$record>::new(
            $name,
            $comment,
            |record: &$record| &record.$($path).+,
            |record: &mut $record| &mut record.$($path).+,
            std::marker::PhantomData::<$form>,
        )),*]
    };
}
pub(super) use columns;
