//! Cold users' blocks in a local store: written when they leave memory, read and removed when the user comes
//! back. Blocks of 64 to 1,536 bytes by a 64-bit hash; one thread, as a worker is.
//!
//! For each store: what it takes to fill it, then to move one block in and another out, over and over; with
//! the slowest calls, the memory and the disk that it takes. What runs behind is counted by the process's
//! time.

mod stores;

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use stores::Store;

/// Splitmix: blocks, and who comes back.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }
}

/// A user's block: many are small. Its bytes are ids and times, which a compressor makes little of.
fn block(key: u64) -> Vec<u8> {
    let mut random = Random(key);
    let steps = random.below(24) * random.below(24) / 23;
    let length = 64 * (1 + steps) as usize;
    let words = (0..length / 8).flat_map(|_| (random.next() & 0x0000_ffff_00ff_ffff).to_le_bytes());
    words.collect()
}

fn hash(user: u64) -> u64 {
    Random(user).next()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let users = arguments.next().transpose()?.unwrap_or(1_000_000);
    let moves = arguments.next().transpose()?.unwrap_or(1_000_000);
    println!("{users} users, {moves} moves; times are of one call, us");
    println!(
        "{:<10} {:>9} {:>9} {:>7} {:>7} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "store", "fill/s", "moves/s", "cpu us", "get p50", "get p99", "put p99", "slowest", "RSS MiB", "disk MiB"
    );
    // Each in a process of its own: memory that one has had is not another's.
    if let Ok(name) = std::env::var("STORE") {
        let folder = std::env::temp_dir().join(format!("stores-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let result = match name.as_str() {
            "fjall" => measure("fjall", stores::Fjall::open(&folder)?, &folder, users, moves),
            "redb" => measure("redb", stores::Redb::open(&folder)?, &folder, users, moves),
            #[cfg(feature = "rocksdb")]
            "rocksdb" => measure("rocksdb", stores::Rocks::open(&folder)?, &folder, users, moves),
            _ => Err(format!("no store {name:?}").into()),
        };
        fs::remove_dir_all(&folder)?;
        return result;
    }
    for name in ["fjall", "redb", "rocksdb"] {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        let output = command.args(std::env::args().skip(1)).env("STORE", name).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().nth(2) {
            Some(line) => println!("{line}"),
            None => println!("{name:<10} {}", String::from_utf8_lossy(&output.stderr).trim()),
        }
    }
    Ok(())
}

fn measure<S: Store>(
    name: impl Display,
    mut store: S,
    folder: &Path,
    users: u64,
    moves: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    for user in 0..users {
        store.put(hash(user), &block(user))?;
    }
    let fill = start.elapsed();
    // In memory are as many users more; one of those in the store changes places with one of these.
    let mut away: Vec<u64> = (0..users).collect();
    let mut here: Vec<u64> = (users..users + users / 4).collect();
    let mut random = Random(7);
    let (mut gets, mut puts) = (Vec::new(), Vec::new());
    let (cpu, start) = (cpu_s(), Instant::now());
    for _ in 0..moves {
        let (a, h) = (random.below(away.len() as u64) as usize, random.below(here.len() as u64) as usize);
        let watch = Instant::now();
        let found = store.take(hash(away[a]))?;
        gets.push(watch.elapsed());
        if found != block(away[a]) {
            return Err(format!("{name} gave another block for user {}", away[a]).into());
        }
        let bytes = block(here[h]);
        let watch = Instant::now();
        store.put(hash(here[h]), &bytes)?;
        puts.push(watch.elapsed());
        std::mem::swap(&mut away[a], &mut here[h]);
    }
    let (moving, cpu) = (start.elapsed(), cpu_s() - cpu);
    gets.sort_unstable();
    puts.sort_unstable();
    let at = |times: &[Duration], share: f64| {
        let at = (times.len() as f64 * share) as usize;
        times.get(at.min(times.len() - 1)).map_or(0.0, Duration::as_secs_f64) * 1e6
    };
    println!(
        "{name:<10} {:>9.0} {:>9.0} {:>7.2} {:>7.1} {:>8.1} {:>8.1} {:>9.0} {:>9} {:>9}",
        users as f64 / fill.as_secs_f64(),
        moves as f64 / moving.as_secs_f64(),
        cpu * 1e6 / moves as f64,
        at(&gets, 0.5),
        at(&gets, 0.99),
        at(&puts, 0.99),
        at(&gets, 1.0).max(at(&puts, 1.0)),
        rss_mib(),
        disk_mib(folder)?
    );
    Ok(())
}

/// Processor time of all threads.
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Memory of its own, page cache left out.
fn rss_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

fn disk_mib(folder: &Path) -> std::io::Result<u64> {
    fn bytes(folder: &Path) -> std::io::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            sum += if about.is_dir() { bytes(&entry.path())? } else { about.len() };
        }
        Ok(sum)
    }
    Ok(bytes(folder)? >> 20)
}
