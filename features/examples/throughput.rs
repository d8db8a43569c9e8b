//! Measures the core with its merge on one thread: events decoded in memory, vectors encoded and
//! dropped.
//!
//! `cargo run --release -p features --example throughput [EVENTS]`: 20 events a user over 7 days,
//! Zipf users (0.8) and items (1.1), 200 campaigns, 80 % views, 17 % clicks, 3 % purchases.

use std::sync::Arc;
use std::time::Instant;

use features::{Config, Core, Merge, Plan, Sink, VectorView};
use schemas::{
    Aggregate, Control, Duplicate, EntityTile, Entry, Event, Kind, Label, Origin, Place, Source, SourceSet,
    Tick, Ticks,
};

#[derive(Default)]
struct Count {
    buffer: Vec<u8>,
    vectors: u64,
    bytes: u64,
    labels: u64,
    tiles: Vec<EntityTile>,
}

impl Sink for Count {
    fn vector(&mut self, vector: &VectorView<'_>) {
        self.buffer.clear();
        vector.encode(&mut self.buffer);
        self.vectors += 1;
        self.bytes += self.buffer.len() as u64;
    }
    fn label(&mut self, _: Label) {
        self.labels += 1;
    }
    fn duplicate(&mut self, _: Duplicate) {}
    fn aggregate(&mut self, _: Aggregate) {}
    fn tile(&mut self, tile: EntityTile) {
        self.tiles.push(tile);
    }
}

struct Random(u64);

impl Random {
    /// 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Shares of ranks under Zipf's law, added up.
fn zipf(count: usize, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let weights = (1..=count).map(|rank| (rank as f64).powf(-exponent));
    let mut shares: Vec<f64> = weights
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    for share in &mut shares {
        *share /= sum;
    }
    shares
}

fn entries(count: usize) -> Vec<Entry> {
    let source = Source { topic: "views".into(), partition: 0 };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (users, items) = (zipf((count / 20).max(1), 0.8), zipf(20_000, 1.1));
    let start = 1_700_000_000_000_i64;
    let mut entries = vec![Entry::Control(Control::Sources(SourceSet { sources: vec![source.clone()] }))];
    for index in 0..count {
        let now = start + (index as f64 / count as f64 * 7.0 * 86_400_000.0) as i64;
        let kind = match random.unit() {
            u if u < 0.8 => Kind::View,
            u if u < 0.97 => Kind::Click,
            _ => Kind::Purchase,
        };
        let (at_user, at_item) = (random.unit(), random.unit());
        let user = users.partition_point(|share| *share < at_user);
        let item = items.partition_point(|share| *share < at_item);
        let late = if random.unit() < 0.02 { (random.unit() * 60_000.0) as i64 } else { 0 };
        entries.push(Entry::Event(Box::new(Event {
            origin: Origin { topic: "views".into(), partition: 0, offset: index as i64, line: 0, lines: 1 },
            kind: kind as i32,
            event_id: format!("event-{index:012}"),
            event_time_ms: now - late,
            user: format!("k1-{user:032x}"),
            item: format!("item-{item}"),
            campaign: format!("campaign-{}", (random.unit() * 200.0) as u32),
            category: format!("category-{}", item % 50),
            value: 10.0,
            currency: "EUR".into(),
            ..Event::default()
        })));
        if index % 100 == 99 {
            let tick = Tick { source: source.clone(), watermark_ms: now - 120_000, idle: false };
            entries.push(Entry::Control(Control::Ticks(Ticks { ticks: vec![tick] })));
        }
    }
    entries
}

#[expect(clippy::disallowed_methods, reason = "an example that measures time")]
fn clock() -> Instant {
    Instant::now()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = std::env::args().nth(1).map_or(Ok(400_000), |text| text.parse())?;
    let entries = entries(count);
    let plan = Arc::new(Plan::compile(&Config::default())?);
    let mut core = Core::new(Arc::clone(&plan), 0);
    let mut sink = Count::default();
    let start = clock();
    let mut merge = Merge::new(Arc::clone(&plan), 1);
    let mut offset = 0;
    let mut step = |core: &mut Core, entry: &Entry, sink: &mut Count| {
        core.step(entry, Place { partition: 0, offset }, sink);
        offset += 1;
    };
    for entry in &entries {
        step(&mut core, entry, &mut sink);
        for tile in std::mem::take(&mut sink.tiles) {
            for version in merge.step(&tile) {
                step(&mut core, &Entry::Control(Control::Entities(version)), &mut sink);
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{count} events in {seconds:.2} s: {:.0} events/s; {} vectors of {} numbers, {} bytes each, {} labels",
        count as f64 / seconds,
        sink.vectors,
        plan.vector_schema().fields.len(),
        sink.bytes / sink.vectors.max(1),
        sink.labels,
    );
    let (keys, tiles) = merge.held();
    println!("{:?}, {keys} keys and {tiles} tiles held", merge.counts());
    let users = core.users().max(1);
    println!("{users} users, {} bytes of state each", core.state_bytes() / users);
    let start = clock();
    let bytes = core.snapshot();
    let written = start.elapsed().as_secs_f64();
    let start = clock();
    let back = Core::restore(plan, 0, &bytes)?;
    println!(
        "snapshot {} bytes a user in {written:.3} s, restored in {:.3} s",
        bytes.len() / back.users().max(1),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
