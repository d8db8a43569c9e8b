//! Daylight saving: there is none. Days, hours and weekdays are those of UTC.

use features::{Aggregates, Config, Core, Output, Window};
use schemas::Kind;

use crate::common::*;

const HOUR: i64 = 3_600_000;
/// Midnight UTC of the days on which clocks in Berlin are put forward and back, and of that in New York
/// on which they are put forward.
const NIGHTS: [i64; 3] = [1_774_742_400_000, 1_792_886_400_000, 1_772_928_000_000];

#[test]
fn days_and_hours_are_those_of_utc_when_clocks_are_put_forward_or_back() {
    let windows = ["tumbling:1d", "tumbling:1h", "1d"].map(|window| Window::parse(window).unwrap()).to_vec();
    let config = Config { windows, context: vec!["hour".into(), "weekday".into()], ..config() };
    let plan = plan(&config);
    let schema = plan.vector_schema();
    for midnight in NIGHTS {
        // A view at half past each hour, from the noon before to the noon after.
        let mut entries = vec![sources()];
        for hour in -12..36 {
            let at = midnight + hour * HOUR + HOUR / 2;
            entries.push(entry(event(Kind::View, &format!("v{hour}"), at, "u", "i", "c")));
            entries.push(tick(at));
        }
        entries.push(tick(midnight + 60 * HOUR));
        let mut core = Core::new(plan.clone(), 0);
        let outputs = run(&mut core, &entries);
        let vectors = vectors(&outputs);
        assert_eq!(vectors.len(), 48);
        for (hour, vector) in (-12..36_i64).zip(vectors) {
            let number = |name: &str| vector.numbers().nth(schema.position(name).unwrap()).unwrap() as i64;
            let of_day = hour.rem_euclid(24);
            assert_eq!(number("context_hour"), of_day);
            // All three are Sundays.
            assert_eq!(number("context_weekday"), if hour < 24 { 6 + hour.div_euclid(24) } else { 0 });
            let since_midnight = if hour < 0 { hour + 12 } else { hour % 24 };
            assert_eq!(number("user_views_tumbling_1d"), since_midnight, "hour {hour}");
            assert_eq!(number("user_views_tumbling_1h"), 0);
            assert_eq!(number("user_views_1d"), (hour + 12).min(23));
        }
        // Every hour of the day has its row, none has two.
        let mut aggregates = Aggregates::new(&plan, 1);
        let mut rows = Vec::new();
        for output in outputs {
            if let Output::Hours(hours) = output {
                aggregates.step(&hours, |row| rows.push(row));
            }
        }
        let hours: Vec<i64> = rows.iter().filter(|row| row.revision == 0).map(|row| row.hour_ms).collect();
        assert_eq!(hours, (-12..36).map(|hour| midnight + hour * HOUR).collect::<Vec<_>>());
        assert!(rows.iter().all(|row| row.impressions == 1));
    }
}
