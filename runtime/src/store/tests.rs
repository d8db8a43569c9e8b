#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Barrier;

use super::*;

fn folder() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    (folder, store)
}

#[test]
fn of_many_writers_one_creates() {
    let (_folder, local) = folder();
    for store in [local, Store::open("memory://").unwrap()] {
        for round in 0..20 {
            let path = format!("champion/{round}");
            let barrier = Barrier::new(8);
            let wins: Vec<(usize, bool)> = std::thread::scope(|scope| {
                let write = |writer: usize| {
                    let (store, path, barrier) = (&store, &path, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let bytes = Bytes::from(vec![writer as u8; 4096]);
                        (writer, store.put_new_blocking(path, bytes).unwrap())
                    })
                };
                let writers: Vec<_> = (0..8).map(write).collect();
                writers.into_iter().map(|writer| writer.join().unwrap()).collect()
            });
            let winners: Vec<_> = wins.iter().filter(|(_, won)| *won).map(|(writer, _)| *writer).collect();
            assert_eq!(winners.len(), 1, "{store:?} {path}");
            let stored = store.get_blocking(&path).unwrap().unwrap();
            assert_eq!(stored, vec![winners[0] as u8; 4096]);
        }
    }
}

#[tokio::test]
async fn writes_reads_lists_and_deletes_under_a_child() {
    let (_folder, local) = folder();
    for store in [local, Store::open("memory://").unwrap()] {
        let child = store.child("snapshots/features").unwrap();
        child.put("0/100", "a".into()).await.unwrap();
        child.put("0/20", "b".into()).await.unwrap();
        child.put("10/5", "c".into()).await.unwrap();
        store.put("other", "d".into()).await.unwrap();
        assert_eq!(child.list("0").await.unwrap(), ["0/100", "0/20"]);
        assert_eq!(child.list("1").await.unwrap(), Vec::<String>::new());
        assert_eq!(store.list("").await.unwrap().len(), 4);
        assert_eq!(store.get("snapshots/features/10/5").await.unwrap().as_deref(), Some(&b"c"[..]));
        child.delete("0/100").await.unwrap();
        child.delete("0/100").await.unwrap();
        assert_eq!(child.get("0/100").await.unwrap(), None);
        assert_eq!(child.list("").await.unwrap(), ["0/20", "10/5"]);
    }
}

#[tokio::test]
async fn blocks_even_inside_a_runtime() {
    let store = Store::open("memory://").unwrap();
    store.put_blocking("a", "1".into()).unwrap();
    assert_eq!(store.list_blocking("").unwrap(), ["a"]);
}

#[test]
fn a_folder_has_a_url_and_comes_back_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("mit Leerzeichen & ü");
    let store = Store::open(root.to_str().unwrap()).unwrap();
    assert!(store.root_url().ends_with("/mit%20Leerzeichen%20&%20%C3%BC"), "{}", store.root_url());
    assert_eq!(store.local_root().unwrap(), root.canonicalize().unwrap());
    store.put_blocking("x", "1".into()).unwrap();
    assert_eq!(Store::open(store.root_url()).unwrap().list_blocking("").unwrap(), ["x"]);
}

#[test]
fn stores_in_memory_are_shared_by_name_only() {
    Store::open("memory://shared-by-name").unwrap().put_blocking("a", "1".into()).unwrap();
    let list = |root| Store::open(root).unwrap().list_blocking("").unwrap();
    assert_eq!(list("memory://shared-by-name"), ["a"]);
    assert!(list("memory://").is_empty());
}

#[test]
fn says_what_is_wrong_with_a_root() {
    let error = |root: &str| Store::open(root).unwrap_err().to_string();
    if cfg!(not(feature = "s3")) {
        assert_eq!(
            error("s3://user:hush@bucket/path"),
            "storage.root \"s3://bucket/path\" needs the cargo feature `s3`, and this binary was built \
             without it: build with `--features s3`, or use a folder (fatal)"
        );
    }
    assert!(error("ftp://host/path").contains("the schemes are file, memory, s3, gs and az"));
    assert!(error("").contains("it is empty"));
    let store = Store::open("memory://").unwrap();
    assert!(matches!(store.get_blocking("a//b"), Err(StoreError::Path { .. })));
    assert!(matches!(store.get_blocking("../b"), Err(StoreError::Path { .. })));
}
