//! A table by itself: positions, crashes, rivals, compaction, time travel, vacuum, damage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use arrow::array::cast::AsArray as _;
use arrow::array::{Array as _, RecordBatch};
use common::{append, config, day, expected, folder, places, places_of, progress, read, rows, schema, table};
use lake::{Config, Error, Order, ScanOptions, Table, app_id};
use schemas::duration::Millis;

fn parquet_files(root: &str) -> Vec<std::path::PathBuf> {
    let table = std::path::Path::new(root).join("tables/things");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(table).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with("date=") {
            found.extend(std::fs::read_dir(entry.path()).unwrap().map(|file| file.unwrap().path()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_table_is_created_appended_to_and_opened_again() {
    let (_folder, root) = folder();
    let mut first = table(&root).await;
    append(&mut first, 0, 0..10).await;
    append(&mut first, 1, 0..5).await;
    append(&mut first, 0, 10..12).await;

    let mut again = Table::open(&root, "things").await.unwrap();
    assert_eq!(again.version(), first.version());
    assert_eq!(again.row_count().unwrap(), 17);
    assert_eq!(again.committed(&app_id(common::TOPIC, 0)).await.unwrap(), Some(12));
    assert_eq!(again.positions(common::TOPIC, 3).await.unwrap(), [Some(12), Some(5), None]);
    let mut all = expected(0..1, 0..12);
    all.extend(expected(1..2, 0..5));
    assert_eq!(places(&again).await, all);
    assert_eq!(lake::tables(&root).await.unwrap(), ["things"]);
    let comment = again.schema().field_with_name("thing_id").unwrap().metadata().get(lake::COMMENT).cloned();
    assert_eq!(comment.as_deref(), Some("what it is"));
    assert!(matches!(Table::open(&root, "others").await, Err(Error::NoTable { .. })));
}

#[tokio::test]
async fn rows_come_back_as_they_were() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    append(&mut table, 0, 0..9).await;
    let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    let back = read(&table, &options).await;
    assert_eq!(back.len(), 1);
    let wrote = rows(0, 0..9);
    for name in ["thing_id", "event_time", "date"] {
        assert_eq!(back[0].column_by_name(name), wrote.column_by_name(name), "{name}");
    }
    let lists = back[0].column_by_name("numbers").unwrap().clone();
    assert_eq!(&arrow::compute::cast(&lists, wrote.column(2).data_type()).unwrap(), wrote.column(2));
}

#[tokio::test]
async fn a_batch_that_is_in_already_is_refused() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    append(&mut table, 0, 0..10).await;
    let version = table.version();
    let replay = table.append(rows(0, 0..10), &[progress(0, None, 10)], 1).await;
    assert!(matches!(replay, Err(Error::Moved { found: Some(10), .. })), "{replay:?}");
    assert_eq!(table.version(), version);
    assert_eq!(table.row_count().unwrap(), 10);
}

#[tokio::test]
async fn a_file_without_a_commit_is_not_in_the_table() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    append(&mut table, 0, 0..4).await;
    append(&mut table, 0, 4..10).await;
    // A crash between the data file and the log: the commit's entry is gone, the file is there.
    append(&mut table, 0, 10..20).await;
    let log = std::path::Path::new(&root).join("tables/things/_delta_log/00000000000000000003.json");
    std::fs::remove_file(log).unwrap();
    assert_eq!(parquet_files(&root).len(), 6);

    let mut again = Table::open(&root, "things").await.unwrap();
    assert_eq!(again.row_count().unwrap(), 10);
    assert_eq!(again.committed(&app_id(common::TOPIC, 0)).await.unwrap(), Some(10));
    append(&mut again, 0, 10..20).await;
    assert_eq!(places(&again).await, expected(0..1, 0..20));
    let done = again.vacuum(Millis(-60_000), &[]).await.unwrap();
    assert_eq!(done.files, 2);
    assert_eq!(places(&again).await, expected(0..1, 0..20));
}

#[tokio::test]
async fn of_two_writers_of_one_partition_one_wins() {
    let (_folder, root) = folder();
    let mut a = table(&root).await;
    let mut b = table(&root).await;
    let a_moved = [progress(0, None, 10), progress(1, None, 0)];
    let b_moved = [progress(0, None, 8)];
    let (a_done, b_done) =
        tokio::join!(a.append(rows(0, 0..10), &a_moved, 1), b.append(rows(0, 0..8), &b_moved, 1));
    assert!(a_done.is_ok() != b_done.is_ok(), "{a_done:?} {b_done:?}");
    let lost = a_done.and(b_done).unwrap_err();
    assert!(matches!(lost, Error::Moved { .. }), "{lost:?}");

    let mut table = Table::open(&root, "things").await.unwrap();
    let rows = table.row_count().unwrap();
    assert!(rows == 10 || rows == 8);
    assert_eq!(places(&table).await.len() as u64, rows);
    // A loser that had written its file cannot know that its commit was not made (the answer may
    // have been lost): the file stays, named by no commit, until vacuum takes it.
    let orphans = parquet_files(&root).len() - table.files().unwrap().len();
    assert_eq!(table.vacuum(Millis(-60_000), &[]).await.unwrap().files, orphans as u64);
    assert_eq!(parquet_files(&root).len(), table.files().unwrap().len());
    assert_eq!(places(&table).await.len() as u64, rows);
}

#[tokio::test]
async fn writers_of_different_partitions_do_not_disturb_one_another() {
    let (_folder, root) = folder();
    table(&root).await;
    let writing: Vec<_> = (0..4)
        .map(|partition| {
            let root = root.clone();
            tokio::spawn(async move {
                let mut table = Table::open(&root, "things").await.unwrap();
                for start in [0, 5, 10] {
                    append(&mut table, partition, start..start + 5).await;
                }
            })
        })
        .collect();
    for one in writing {
        one.await.unwrap();
    }
    let table = Table::open(&root, "things").await.unwrap();
    assert_eq!(places(&table).await, expected(0..4, 0..15));
}

#[tokio::test]
async fn a_scan_can_follow_the_topic_and_pick() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    for start in [0, 7, 20] {
        for partition in [1, 0] {
            let end = if start == 20 { 31 } else { start * 13 / 7 + 7 };
            append(&mut table, partition, start..end).await;
        }
    }
    let place = ScanOptions { order: Order::Place, batch_rows: 4, ..ScanOptions::default() };
    let batches = read(&table, &place).await;
    assert!(batches.iter().all(|batch| batch.num_rows() <= 4));
    assert_eq!(places_of(&batches), expected(0..2, 0..31));

    let one = ScanOptions { partitions: Some(vec![1]), offsets: Some(5..25), ..place.clone() };
    assert_eq!(places_of(&read(&table, &one).await), expected(1..2, 5..25));

    let days = ScanOptions { dates: Some(20_001..=20_001), ..place.clone() };
    let wanted: Vec<_> =
        expected(0..2, 0..31).into_iter().filter(|(_, offset)| day(*offset) == 20_001).collect();
    assert_eq!(places_of(&read(&table, &days).await), wanted);

    let columns = ScanOptions { columns: Some(vec!["date".to_owned(), "thing_id".to_owned()]), ..place };
    let batches = read(&table, &columns).await;
    assert_eq!(batches[0].schema().fields().len(), 2);
    assert_eq!(batches[0].schema().field(0).name(), "date");
    let unknown = ScanOptions { columns: Some(vec!["nothing".to_owned()]), ..ScanOptions::default() };
    assert!(matches!(table.scan(&unknown).err(), Some(Error::Schema { .. })));
}

#[tokio::test]
async fn compaction_keeps_rows_order_and_old_versions() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    for start in [0, 6, 12, 18] {
        for partition in 0..3 {
            append(&mut table, partition, start..start + 6).await;
        }
    }
    let before = table.version();
    let old_files = table.files().unwrap();
    assert_eq!(old_files.len(), 24);
    let done = table.compact(&config(), &[]).await.unwrap();
    assert_eq!((done.removed, done.added, done.rows), (24, 2, 72));
    assert_eq!(table.files().unwrap().len(), 2);

    let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    assert_eq!(places_of(&read(&table, &options).await), expected(0..3, 0..24));
    let in_file = places_of(
        &read(&table, &ScanOptions { dates: Some(20_000..=20_000), ..ScanOptions::default() }).await,
    );
    assert!(in_file.is_sorted());
    // Positions and the past are as they were.
    assert_eq!(table.positions(common::TOPIC, 3).await.unwrap(), [Some(24); 3]);
    let past = table.at(before).await.unwrap();
    assert_eq!(past.files().unwrap(), old_files);
    assert_eq!(places(&past).await, expected(0..3, 0..24));
    // Nothing is left to do, and writing goes on.
    assert_eq!(table.compact(&config(), &[]).await.unwrap().removed, 0);
    append(&mut table, 0, 24..30).await;
    assert_eq!(places(&table).await.len(), 78);
}

#[tokio::test]
async fn compaction_and_writers_do_not_lose_or_double_rows() {
    let (_folder, root) = folder();
    let mut first = table(&root).await;
    for start in [0, 5, 10] {
        append(&mut first, 0, start..start + 5).await;
    }
    let (mut a, mut b) = (first.clone(), first.clone());
    let write = async {
        for start in [15, 20, 25, 30] {
            append(&mut first, 0, start..start + 5).await;
        }
    };
    let small = config();
    let (a_done, b_done, ()) = tokio::join!(a.compact(&small, &[]), b.compact(&small, &[]), write);
    a_done.unwrap();
    b_done.unwrap();
    let table = Table::open(&root, "things").await.unwrap();
    assert_eq!(places(&table).await, expected(0..1, 0..35));
}

#[tokio::test]
async fn a_clustered_table_is_sorted_by_row_group_and_scanned_in_order_all_the_same() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    // More than a row group of each of two days.
    append(&mut table, 0, 0..150_000).await;
    append(&mut table, 1, 0..30).await;
    append(&mut table, 0, 150_000..300_000).await;
    let by = ["thing_id", "event_time", "not there"];
    let done = table.compact(&config(), &by).await.unwrap();
    assert_eq!((done.removed, done.added, done.rows), (6, 2, 300_030));
    let files = table.files().unwrap();
    assert!(files.iter().all(|file| file.clustered_by == ["thing_id", "event_time"]), "{files:?}");

    // Batches that end with row groups, as the rows lie in the file.
    let as_it_lies =
        ScanOptions { batch_rows: 131_072, columns: Some(vec!["thing_id".into()]), ..ScanOptions::default() };
    let groups = read(&table, &as_it_lies).await;
    assert_eq!(
        groups.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(),
        [131_072, 18_943, 131_072, 18_943]
    );
    for group in &groups {
        let ids = group.column(0).as_string::<i32>();
        assert!(ids.iter().is_sorted(), "a row group is sorted by what it is clustered by");
    }
    let in_order = |partitions| ScanOptions { order: Order::Place, partitions, ..ScanOptions::default() };
    let all: Vec<_> = expected(0..1, 0..300_000).into_iter().chain(expected(1..2, 0..30)).collect();
    assert_eq!(places_of(&read(&table, &in_order(None)).await), all);
    let some = ScanOptions { offsets: Some(20..1_000), ..in_order(Some(vec![0])) };
    assert_eq!(places_of(&read(&table, &some).await), expected(0..1, 20..1_000));

    // Beside files in the topic's order, and again.
    for start in [300_000, 300_100] {
        append(&mut table, 0, start..start + 100).await;
    }
    let all: Vec<_> = expected(0..1, 0..300_200).into_iter().chain(expected(1..2, 0..30)).collect();
    assert_eq!(places_of(&read(&table, &in_order(None)).await), all);
    assert!(table.compact(&config(), &by).await.unwrap().removed > 4);
    assert_eq!(places_of(&read(&table, &in_order(None)).await), all);
    assert_eq!(table.check_files().await.unwrap().good, 2);
}

#[tokio::test]
async fn large_files_are_split_at_the_target() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    for start in [0, 3_000, 6_000] {
        append(&mut table, 0, start..start + 3_000).await;
    }
    let small = Config { target_file_bytes: 40_000, ..config() };
    // Files above half the target are left alone, so make all of them count as small first.
    let most = table.files().unwrap().iter().map(|file| file.bytes).max().unwrap();
    let small = Config { target_file_bytes: (most * 2 + 2).max(small.target_file_bytes), ..small };
    let done = table.compact(&small, &[]).await.unwrap();
    assert!(done.added >= 2, "{done:?}");
    let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    assert_eq!(places_of(&read(&table, &options).await), expected(0..1, 0..9_000));
}

#[tokio::test]
async fn vacuum_leaves_what_is_pinned_and_what_is_recent() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    append(&mut table, 0, 0..6).await;
    append(&mut table, 0, 6..12).await;
    let pinned = table.version();
    table.compact(&config(), &[]).await.unwrap();
    append(&mut table, 0, 12..18).await;
    append(&mut table, 0, 18..24).await;
    let unpinned = table.version();
    table.compact(&config(), &[]).await.unwrap();
    let all = parquet_files(&root).len();

    // Removed a moment ago: within the retention nothing goes.
    assert_eq!(table.vacuum(Millis(3_600_000), &[]).await.unwrap().files, 0);
    assert_eq!(parquet_files(&root).len(), all);
    // Retention that is over: the pinned version's files stay, the others' go.
    let done = table.vacuum(Millis(-60_000), &[pinned]).await.unwrap();
    assert!(done.files > 0);
    assert_eq!(places(&table.at(pinned).await.unwrap()).await, expected(0..1, 0..12));
    assert_eq!(places(&table).await, expected(0..1, 0..24));
    let gone = table.at(unpinned).await.unwrap();
    let failed =
        futures::TryStreamExt::try_collect::<Vec<_>>(gone.scan(&ScanOptions::default()).unwrap()).await;
    assert!(matches!(failed, Err(Error::File { ref what, .. }) if what == "is missing"), "{failed:?}");
    // A pinned version that is not there deletes nothing.
    assert!(table.vacuum(Millis(-60_000), &[9_999]).await.is_err());
}

#[tokio::test]
async fn a_changed_or_missing_file_is_named() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    append(&mut table, 0, 0..3).await;
    append(&mut table, 0, 3..6).await;
    append(&mut table, 0, 6..9).await;
    let checked = table.check_files().await.unwrap();
    assert_eq!((checked.good, checked.damaged.len()), (3, 0));

    let files = table.files().unwrap();
    let path = |file: &lake::DataFile| std::path::Path::new(&root).join("tables/things").join(&file.path);
    // One byte of a page: a scan may not see it, the checksum does.
    let mut bytes = std::fs::read(path(&files[0])).unwrap();
    bytes[10] ^= 1;
    std::fs::write(path(&files[0]), bytes).unwrap();
    // Another file in its place: the rows do not fit.
    std::fs::copy(path(&files[2]), path(&files[1])).unwrap();
    std::fs::remove_file(path(&files[2])).unwrap();
    let checked = table.check_files().await.unwrap();
    assert_eq!((checked.good, checked.damaged.len()), (0, 3));
    for (file, damage) in files.iter().zip(&checked.damaged) {
        assert!(damage.to_string().contains(&file.path), "{damage}");
    }
    // A file cut short fails the scan, by name.
    let bytes = std::fs::read(path(&files[1])).unwrap();
    std::fs::write(path(&files[1]), &bytes[..bytes.len() / 2]).unwrap();
    let options = ScanOptions { offsets: Some(3..6), ..ScanOptions::default() };
    let failed =
        futures::TryStreamExt::try_collect::<Vec<_>>(table.scan(&options).unwrap()).await.unwrap_err();
    assert!(failed.to_string().contains(&files[1].path), "{failed}");
}

/// A store that is away for a moment: neither who reads a table nor who writes it may take that for the end.
#[tokio::test]
async fn a_log_that_cannot_be_read_now_is_worth_another_try() {
    let (_folder, root) = folder();
    let mut table = table(&root).await;
    append(&mut table, 0, 0..10).await;
    // A file in place of a folder: what lies below can't be had, and is not said to be missing.
    let tables = std::path::Path::new(&root).join("tables");
    let aside = tables.with_file_name("aside");
    std::fs::rename(&tables, &aside).unwrap();
    std::fs::write(&tables, "").unwrap();
    let reading = table.clone().refresh().await.unwrap_err();
    assert!(reading.retry(), "{reading:?}");
    let writing = table.append(rows(0, 10..12), &[progress(0, Some(10), 12)], 1).await.unwrap_err();
    assert!(writing.retry(), "{writing:?}");
    let batches = table.scan(&ScanOptions::default()).unwrap();
    let scanning = futures::TryStreamExt::try_collect::<Vec<_>>(batches).await.unwrap_err();
    assert!(scanning.retry(), "{scanning:?}");

    std::fs::remove_file(&tables).unwrap();
    std::fs::rename(&aside, &tables).unwrap();
    append(&mut table, 0, 10..12).await;
    assert_eq!(places(&table).await, expected(0..1, 0..12));
}

#[tokio::test]
async fn nullable_columns_may_be_added_and_others_not() {
    use arrow::datatypes::{DataType, Field, Schema};
    let (_folder, root) = folder();
    let mut old = table(&root).await;
    append(&mut old, 0, 0..3).await;
    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.push(std::sync::Arc::new(Field::new("new", DataType::Int64, true)));
    let wider = std::sync::Arc::new(Schema::new(fields.clone()));
    let table = Table::open_or_create(&root, "things", &wider, &config()).await.unwrap();
    let batches = read(&table, &ScanOptions::default()).await;
    assert_eq!(batches[0].column_by_name("new").unwrap().null_count(), 3);
    // The encoder of old still works.
    append(&mut old, 0, 3..5).await;

    fields.push(std::sync::Arc::new(Field::new("must", DataType::Int64, false)));
    let strict = std::sync::Arc::new(Schema::new(fields));
    let refused = Table::open_or_create(&root, "things", &strict, &config()).await;
    assert!(matches!(refused, Err(Error::Schema { ref column, .. }) if column == "must"), "{refused:?}");
}

#[tokio::test]
async fn tables_in_memory_are_shared_by_their_address() {
    let root = "memory:///shared-by-address";
    let mut first = table(root).await;
    append(&mut first, 0, 0..7).await;
    let second = Table::open(root, "things").await.unwrap();
    assert_eq!(places(&second).await, expected(0..1, 0..7));
    assert_eq!(lake::tables(root).await.unwrap(), ["things"]);
    assert!(matches!(Table::open("ftp://host/x", "things").await, Err(Error::Location { .. })));
}

#[test]
fn plain_threads_read_too() {
    let (_folder, root) = folder();
    let table = lake::blocking::block_on(async {
        let mut table = table(&root).await;
        append(&mut table, 0, 0..4).await;
        Ok(table)
    })
    .unwrap();
    let batches: Vec<_> = table.scan_blocking(&ScanOptions::default()).unwrap().map(Result::unwrap).collect();
    assert_eq!(places_of(&batches).len(), 4);
}
