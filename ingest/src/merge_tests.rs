//! The merge against a naive oracle, and what it may not do.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { lane_items: 8, total_bytes: 200, wait_ms: 100 };

fn drain(merge: &mut Merge<i64>) -> Vec<i64> {
    std::iter::from_fn(|| merge.pop().map(|(_, item)| item)).collect()
}

#[test]
fn waits_for_what_is_unread_and_not_for_what_is_caught_up() {
    let mut merge = Merge::new(2, BOUNDS);
    merge.push(0, Some(5), 1, 5);
    assert_eq!(drain(&mut merge), [0_i64; 0], "lane 1 may have something earlier");
    merge.drained(&[true, true], 0);
    assert_eq!(drain(&mut merge), [5]);
    merge.push(1, Some(7), 1, 7);
    assert_eq!(drain(&mut merge), [7], "lane 0 stands at its end");
    merge.push(0, Some(6), 1, 6);
    assert_eq!(drain(&mut merge), [0_i64; 0], "lane 1 has gone on and is not known to be at its end");
    merge.push(1, Some(9), 1, 9);
    assert_eq!(drain(&mut merge), [6]);
    merge.drained(&[true, false], 0);
    assert_eq!(drain(&mut merge), [9], "its own lane is not waited for while it has items");
}

#[test]
fn items_without_a_time_wait_for_no_other_lane() {
    let mut merge = Merge::new(2, BOUNDS);
    merge.push(0, None, 1, -1);
    merge.push(0, Some(5), 1, 5);
    merge.push(0, None, 1, -2);
    assert_eq!(drain(&mut merge), [-1], "the second waits for the item before it");
    merge.drained(&[false, true], 0);
    assert_eq!(drain(&mut merge), [5, -2]);
}

#[test]
fn a_lane_that_gives_nothing_is_given_up_until_it_gives() {
    let mut merge = Merge::new(2, BOUNDS);
    merge.push(0, Some(5), 1, 5);
    for now_ms in [0, 90, 91, 92, 93] {
        merge.drained(&[true, false], now_ms);
        assert_eq!(drain(&mut merge), [0_i64; 0]);
    }
    merge.drained(&[true, false], 100);
    assert_eq!(drain(&mut merge), [5]);
    merge.push(1, Some(1), 1, 1);
    merge.push(1, Some(8), 1, 8);
    merge.push(0, Some(6), 1, 6);
    assert_eq!(drain(&mut merge), [1, 6], "it is waited for again, as is lane 0 now");
}

#[test]
fn sleeping_is_not_waiting() {
    let mut merge = Merge::new(2, BOUNDS);
    merge.push(0, Some(5), 1, 5);
    merge.drained(&[true, false], 0);
    merge.drained(&[true, false], 1_000_000);
    assert_eq!(drain(&mut merge), [0_i64; 0], "two polls, however far apart, are not enough");
}

#[test]
fn full_lanes_pause_until_half_is_gone() {
    let mut merge = Merge::new(2, BOUNDS);
    for time in 0..8 {
        merge.push(0, Some(time), 1, time);
    }
    assert_eq!(merge.paused().collect::<Vec<_>>(), [0]);
    merge.push(1, Some(3), 1, 3);
    assert_eq!(drain(&mut merge), [0, 1, 2, 3, 3]);
    assert_eq!(merge.paused().collect::<Vec<_>>(), [0_usize; 0], "four are left");
    merge.push(1, Some(9), 200, 9);
    assert_eq!(merge.paused().collect::<Vec<_>>(), [0, 1], "too many bytes in all");
    merge.drained(&[true, true], 0);
    assert_eq!(drain(&mut merge), [4, 5, 6, 7, 9]);
    assert_eq!(merge.paused().count(), 0);
}

proptest! {
    /// Whatever comes in whatever pieces: each lane's items come out in the lane's order, all of
    /// them; and with nothing at its end until all is read, in the order of a naive merge.
    #[test]
    fn agrees_with_a_naive_merge(
        lanes in proptest::collection::vec(proptest::collection::vec(0_i64..50, 0..12), 1..5),
        picks in proptest::collection::vec(0_usize..5, 0..80),
    ) {
        let mut naive: Vec<VecDeque<i64>> = lanes.iter().map(|lane| lane.iter().copied().collect()).collect();
        let mut expected = Vec::new();
        while let Some(lane) =
            (0..naive.len()).filter(|lane| !naive[*lane].is_empty()).min_by_key(|lane| (naive[*lane][0], *lane))
        {
            expected.push((lane, naive[lane].pop_front().unwrap()));
        }

        let mut merge = Merge::new(lanes.len(), Bounds { lane_items: 1000, total_bytes: 1 << 20, wait_ms: 100 });
        let mut left: Vec<VecDeque<i64>> = lanes.iter().map(|lane| lane.iter().copied().collect()).collect();
        let mut got = Vec::new();
        let rest = (0..lanes.len()).flat_map(|lane| std::iter::repeat_n(lane, 12));
        for lane in picks.into_iter().map(|pick| pick % lanes.len()).chain(rest) {
            if let Some(time) = left[lane].pop_front() {
                merge.push(lane, Some(time), 3, time);
            }
            got.extend(std::iter::from_fn(|| merge.pop()));
            let ends: Vec<bool> = left.iter().map(VecDeque::is_empty).collect();
            merge.drained(&ends, 0);
            got.extend(std::iter::from_fn(|| merge.pop()));
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!((merge.held(), merge.held_bytes()), (0, 0));
    }

    /// Its own counts agree with a recount, whatever happens.
    #[test]
    fn counts_hold(
        steps in proptest::collection::vec((0_usize..4, 0_i64..50, 0_u8..10, 0_u8..8), 0..200),
    ) {
        let mut merge = Merge::new(4, BOUNDS);
        for (lane, time, what, ends) in steps {
            match what {
                0..6 => merge.push(lane, (what > 0).then_some(time), 7, time),
                6..8 => merge.drained(&[ends & 1 > 0, ends & 2 > 0, ends & 4 > 0, true], time * 10),
                _ => drop(merge.pop()),
            }
            prop_assert_eq!(merge.awaited, merge.lanes.iter().filter(|lane| lane.is_awaited()).count());
            prop_assert_eq!(merge.held, merge.lanes.iter().map(|lane| lane.queue.len()).sum::<usize>());
            prop_assert_eq!(merge.bytes, merge.held * 7);
            prop_assert_eq!(merge.heads.len(), merge.lanes.iter().filter(|lane| !lane.queue.is_empty()).count());
            let empty: Vec<bool> = (0..4).map(|lane| merge.is_empty(lane)).collect();
            prop_assert!(merge.paused().all(|lane| !empty[lane]));
        }
    }
}
