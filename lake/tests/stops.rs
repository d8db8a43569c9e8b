//! Kills and lost answers at every step of a table's life: opening, appending, checkpoints, compaction.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod mortal;

use common::{TOPIC, Things, config, day, expected, places, record};
use lake::{Config, Error, Table, Writer};
use mortal::{Fault, Mortal};
use schemas::duration::Millis;

const PARTITIONS: i32 = 2;
/// Of each partition.
const RECORDS: i64 = 4;
/// Records of a commit, of one partition: four commits, a checkpoint after the third.
const BATCH: i64 = 2;
/// Tries of a commit by the writer that met an error, as the service makes them.
const TRIES: usize = 3;
/// Ways in which a store stutters after a step, and how often a writer tries meanwhile.
const STUTTERS: u32 = 12;
const MANY_TRIES: usize = 40;

/// What a process does with the table, from wherever it stands to the end.
async fn life(root: &str, tries: usize) -> Result<(), Error> {
    let config = Config { compact_min_files: 3, ..config() };
    let mut writer = Writer::open(root, "things", TOPIC.into(), Things::boxed(), &config).await?;
    let stands = writer.restore(PARTITIONS).await?;
    for (partition, stands) in (0..).zip(&stands) {
        if stands.is_none() {
            writer.begin(partition, 0);
        }
    }
    // By turns, so that a commit moves one of them and says nothing of the other.
    for number in 0..i64::from(PARTITIONS) * RECORDS / BATCH {
        let (partition, begin) = (number as i32 % PARTITIONS, number / i64::from(PARTITIONS) * BATCH);
        if stands[partition as usize].is_some_and(|stands| begin < stands) {
            continue;
        }
        for offset in begin..begin + BATCH {
            writer.push(&record(partition, offset, &format!("o{offset},{}", day(offset))))?;
        }
        let mut tried = 1;
        while let Err(error) = writer.commit().await {
            if tried == tries {
                return Err(error);
            }
            tried += 1;
        }
    }
    writer.table_mut().compact(&config, &[]).await?;
    Ok(())
}

/// Every record is in the table once, and after vacuum no file lies about that no version names.
async fn check(root: &str, store: &Mortal, what: &str) {
    let mut table = Table::open(root, "things").await.unwrap();
    assert_eq!(places(&table).await, expected(0..PARTITIONS, 0..RECORDS), "{what}");
    assert_eq!(table.row_count().unwrap(), RECORDS as u64 * PARTITIONS as u64, "{what}");
    let reached = table.positions(TOPIC, PARTITIONS).await.unwrap();
    assert_eq!(reached, [Some(RECORDS); PARTITIONS as usize], "{what}");
    table.vacuum(Millis(-60_000), &[]).await.unwrap();
    assert_eq!(places(&table).await, expected(0..PARTITIONS, 0..RECORDS), "{what}, after vacuum");
    let lying = store.files("tables/things/date=").await.len();
    assert_eq!(lying, table.files().unwrap().len(), "{what}, after vacuum");
}

/// Steps of a life that nothing disturbs.
async fn steps(name: &str) -> u64 {
    let (root, store) = mortal::root(name);
    life(&root, 1).await.unwrap();
    let steps = store.steps();
    check(&root, &store, name).await;
    steps
}

#[tokio::test]
async fn a_kill_before_or_after_any_step_loses_and_doubles_nothing() {
    let steps = steps("kill").await;
    assert!(steps > 40, "{steps} steps");
    let mut killed = 0;
    for at in 0..steps {
        for after in [false, true] {
            let what = format!("killed {} step {at}", if after { "after" } else { "before" });
            let (root, store) = mortal::root(&what.replace(' ', "-"));
            store.plan(Fault { at, after, then: 0, fatal: true });
            killed += u64::from(life(&root, 1).await.is_err());
            store.revive();
            life(&root, 1).await.unwrap();
            check(&root, &store, &what).await;
        }
    }
    // All but those after which there was nothing left to do.
    assert!(killed > steps * 2 - 20, "{killed} kills of {steps} steps");
}

#[tokio::test]
async fn an_error_or_a_lost_answer_at_any_step_is_tried_again_by_the_same_writer() {
    let steps = steps("error").await;
    let mut met = 0;
    for at in 0..steps {
        for after in [false, true] {
            let what = format!("{} at step {at}", if after { "lost answer" } else { "error" });
            let (root, store) = mortal::root(&what.replace(' ', "-"));
            store.plan(Fault { at, after, then: 0, fatal: false });
            // What is not a commit (opening, compaction) is begun again, as the service does.
            if life(&root, TRIES).await.is_err() {
                met += 1;
                life(&root, TRIES).await.unwrap();
            }
            check(&root, &store, &what).await;
        }
    }
    assert!(met < steps, "{met} lives ended by one error in {steps} steps");
}

/// The answer is lost, and the store is away now and then: what is known of the table must not be half new.
#[tokio::test]
async fn a_store_that_stutters_after_a_lost_answer_loses_and_doubles_nothing() {
    let steps = steps("stutter").await;
    for at in 0..steps {
        for number in 0..STUTTERS {
            // Any pattern will do that differs from the others (Knuth's multiplicative hash).
            let then = (at as u32 * STUTTERS + number + 1).wrapping_mul(2_654_435_761) >> 8;
            let what = format!("lost answer at step {at}, then {then:b}");
            let (root, store) = mortal::root(&what.replace([' ', ','], "-"));
            store.plan(Fault { at, after: true, then, fatal: false });
            // What is not a commit (opening, compaction) is begun again, as the service does.
            while life(&root, MANY_TRIES).await.is_err() {}
            store.revive();
            check(&root, &store, &what).await;
        }
    }
}
