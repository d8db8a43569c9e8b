//! The kinds of market: true probabilities follow from the drivers told, and each kind has its own.
#![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]

use market::{Config, DEFAULTS, Driver, Market, MarketKind, Truth};

#[derive(serde::Deserialize)]
struct File {
    market: Config,
}

fn truths(kind: MarketKind, count: usize) -> Vec<Truth> {
    let config = Config { kind, users: 400, ..toml::from_str::<File>(DEFAULTS).unwrap().market };
    Market::new(&config, 11).unwrap().filter_map(|emission| emission.truth).take(count).collect()
}

fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt()
}

const KINDS: [MarketKind; 4] =
    [MarketKind::Default, MarketKind::Linear, MarketKind::Crossed, MarketKind::Drifting];

#[test]
fn drivers_and_an_intercept_make_the_probability() {
    for kind in KINDS {
        let truths = truths(kind, 5_000);
        let intercepts = truths.iter().map(|truth| {
            let logit = (truth.p_click / (1.0 - truth.p_click)).ln();
            logit - truth.drivers.iter().map(|(_, logit)| logit).sum::<f64>()
        });
        assert!(spread(intercepts) < 1e-9, "{kind:?}");
    }
}

#[test]
fn clicks_come_as_often_as_the_truth_says_and_are_worth_learning() {
    for kind in KINDS {
        let truths = truths(kind, 30_000);
        let count = truths.len() as f64;
        let said = truths.iter().map(|truth| truth.p_click).sum::<f64>() / count;
        let came = truths.iter().filter(|truth| truth.clicked).count() as f64 / count;
        assert!((said - came).abs() < 0.006, "{kind:?}: {said} said, {came} came");
        assert!((came - 0.10).abs() < 0.02, "{kind:?}: {came}");
        let logit = spread(truths.iter().map(|truth| truth.drivers.iter().map(|(_, logit)| logit).sum()));
        assert!((1.1..1.9).contains(&logit), "{kind:?}: logits spread by {logit}");
    }
}

#[test]
fn each_kind_has_drivers_of_its_own() {
    let plays = |kind: MarketKind| -> Vec<Driver> {
        let truths = truths(kind, 2_000);
        let moves = |driver: &Driver| spread(truths.iter().map(|truth| truth.drivers.of(*driver))) > 0.02;
        Driver::ALL.into_iter().filter(moves).collect()
    };
    let linear = plays(MarketKind::Linear);
    assert!(linear.contains(&Driver::Category) && linear.contains(&Driver::User));
    assert!(!linear.contains(&Driver::Taste) && !linear.contains(&Driver::Liking));
    let crossed = plays(MarketKind::Crossed);
    for driver in [Driver::Liking, Driver::CategoryDevice, Driver::CampaignHour, Driver::Price] {
        assert!(crossed.contains(&driver), "{driver:?}");
    }
    let drifting = plays(MarketKind::Drifting);
    assert!(drifting.contains(&Driver::Drift) && drifting.contains(&Driver::Swing));
}
