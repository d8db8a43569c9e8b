//! One data file to batches: opened against what the log says of it, damage named.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray as _;
use arrow::array::types::{Int32Type, Int64Type};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter};
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use schemas::table::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN};

use crate::encode::{ROW_GROUP, by_place};
use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::{Table, columns};

/// What to read of a file.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// The columns, with their types in the table.
    pub(crate) schema: SchemaRef,
    /// Only rows of these partitions.
    pub(crate) partitions: Option<Vec<i32>>,
    /// Only rows of these offsets.
    pub(crate) offsets: Option<Range<i64>>,
    /// Rows of a batch.
    pub(crate) batch_rows: usize,
    /// Whether the rows are wanted in the order of the topic: a clustered file is then read a row group at
    /// a time.
    pub(crate) in_order: bool,
}

/// A file as it is being read.
pub(crate) struct FileBatches {
    source: Source,
    schema: SchemaRef,
    /// Whether batches are to be sorted by place.
    sorts: bool,
    inner: ParquetRecordBatchStream<Reader>,
}

impl FileBatches {
    pub(crate) async fn open(table: &Table, file: &Arc<DataFile>, want: &Want) -> Result<Self> {
        let mut reader = Reader {
            store: Arc::clone(&table.store),
            path: Path::from(file.path.as_str()),
            size: file.bytes,
        };
        // The page index lets a filtered read skip pages; a full read has no use for it.
        let filter = Filter::new(file, want);
        let pages = if filter.is_some() { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
        let options = ArrowReaderOptions::new().with_page_index_policy(pages);
        let source = Source {
            table: Arc::clone(&table.name),
            version: table.version(),
            file: Arc::clone(file),
            store: Arc::clone(&table.store),
        };
        let metadata = match ArrowReaderMetadata::load_async(&mut reader, options).await {
            Ok(metadata) => metadata,
            Err(error) => return Err(source.unreadable(error).await),
        };
        let rows = metadata.metadata().file_metadata().num_rows();
        if rows != file.rows as i64 {
            return Err(Error::File {
                table: table.name.to_string(),
                version: table.version(),
                path: file.path.clone(),
                what: format!("holds {rows} rows where the log says {}: it was tampered with", file.rows),
            });
        }
        let parquet_schema = metadata.metadata().file_metadata().schema_descr_ptr();
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata);
        let roots = |wanted: &dyn Fn(&str) -> bool| {
            let fields = parquet_schema.root_schema().get_fields();
            let picked: Vec<usize> = fields
                .iter()
                .enumerate()
                .filter(|(_, field)| wanted(field.name()))
                .map(|(index, _)| index)
                .collect();
            ProjectionMask::roots(&parquet_schema, picked)
        };
        let sorts = want.in_order && !file.clustered_by.is_empty();
        let batch_rows = if sorts { ROW_GROUP } else { want.batch_rows.max(1) };
        builder = builder
            .with_batch_size(batch_rows)
            .with_projection(roots(&|name| name != DATE_COLUMN && want.schema.field_with_name(name).is_ok()));
        if let Some(filter) = filter {
            let mask = roots(&|name| name == PARTITION_COLUMN || name == OFFSET_COLUMN);
            builder = builder.with_row_filter(filter.on(mask));
        }
        let inner = match builder.build() {
            Ok(inner) => inner,
            Err(error) => return Err(source.unreadable(error).await),
        };
        Ok(Self { source, schema: Arc::clone(&want.schema), sorts, inner })
    }

    /// The next rows, in the table's types; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            match self.inner.next().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.source.unreadable(error).await),
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => {
                    let Source { table, file, .. } = &self.source;
                    let rows = columns::conform(table, &batch, &self.schema, Some(file.date))?;
                    return if self.sorts { by_place(table, &rows) } else { Ok(rows) }.map(Some);
                }
            }
        }
    }

    /// The file.
    pub(crate) fn file(&self) -> &DataFile {
        &self.source.file
    }
}

/// Which file of which version is being read, and from where.
struct Source {
    table: Arc<str>,
    version: u64,
    file: Arc<DataFile>,
    store: Arc<dyn ObjectStore>,
}

impl Source {
    /// Why it could not be read: it is missing or damaged, or the store does not give it now.
    async fn unreadable(&self, error: ParquetError) -> Error {
        let what = match error {
            ParquetError::External(cause) => match cause.downcast::<object_store::Error>() {
                Ok(cause) if matches!(*cause, object_store::Error::NotFound { .. }) => {
                    "is missing".to_owned()
                }
                Ok(cause) => {
                    // A range that the store has not is one of its failures, too; what may come back is no damage.
                    let there = self.store.head(&Path::from(self.file.path.as_str())).await;
                    if there.is_err() || there.is_ok_and(|there| there.size == self.file.bytes) {
                        return Error::store(&self.table)(*cause);
                    }
                    format!("is damaged or unreadable: {cause}")
                }
                Err(cause) => format!("is damaged or unreadable: {cause}"),
            },
            error => format!("is damaged or unreadable: {error}"),
        };
        let (table, version) = (self.table.to_string(), self.version);
        Error::File { table, version, path: self.file.path.clone(), what }
    }
}

/// A condition on the rows' places, where the file may hold others than those wanted.
struct Filter {
    partitions: Option<Vec<i32>>,
    offsets: Option<Range<i64>>,
}

impl Filter {
    fn new(file: &DataFile, want: &Want) -> Option<Self> {
        let partitions = want
            .partitions
            .clone()
            .filter(|wanted| !file.places.keys().all(|partition| wanted.contains(partition)));
        let offsets = want.offsets.clone().filter(|wanted| {
            !file.places.values().all(|(first, last)| wanted.contains(first) && wanted.contains(last))
        });
        (partitions.is_some() || offsets.is_some()).then_some(Self { partitions, offsets })
    }

    fn on(self, bookkeeping: ProjectionMask) -> RowFilter {
        let predicate = ArrowPredicateFn::new(bookkeeping, move |batch| {
            let partition =
                batch.column_by_name(PARTITION_COLUMN).and_then(|a| a.as_primitive_opt::<Int32Type>());
            let offset = batch.column_by_name(OFFSET_COLUMN).and_then(|a| a.as_primitive_opt::<Int64Type>());
            let (Some(partition), Some(offset)) = (partition, offset) else {
                let what = "the bookkeeping columns are missing".to_owned();
                return Err(arrow::error::ArrowError::SchemaError(what));
            };
            let keep = partition.values().iter().zip(offset.values()).map(|(partition, offset)| {
                self.partitions.as_ref().is_none_or(|wanted| wanted.contains(partition))
                    && self.offsets.as_ref().is_none_or(|wanted| wanted.contains(offset))
            });
            Ok(keep.map(Some).collect::<BooleanArray>())
        });
        RowFilter::new(vec![Box::new(predicate)])
    }
}

/// An object of a store, as parquet reads it.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { self.store.get_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.size;
            let metadata = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .load_and_finish(&mut *self, size)
                .await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}
