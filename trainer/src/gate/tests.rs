//! The gate on worlds whose probabilities are known.

use super::*;

const GATE: Gate = Gate {
    resamples: 300,
    confidence: 0.95,
    max_calibration_worsening: 0.1,
    min_campaign_clicks: 20,
    max_campaign_ece_increase: 0.02,
    min_campaign_rows: 500,
};

struct World {
    truth: Vec<f32>,
    clicked: Vec<bool>,
    campaigns: Vec<&'static str>,
}

/// Examples whose probabilities are known.
fn world(rows: usize) -> World {
    let mut random = SplitMix::new(3);
    let mut unit = move || (random.next() >> 40) as f32 / (1 << 24) as f32;
    let truth: Vec<f32> = (0..rows).map(|_| 0.02 + 0.5 * unit() * unit()).collect();
    let clicked = truth.iter().map(|p| unit() < *p).collect();
    let campaigns = (0..rows).map(|i| ["a", "b", "c"][i % 3]).collect();
    World { truth, clicked, campaigns }
}

impl World {
    fn outcomes(&self) -> Vec<Outcome<'static>> {
        self.clicked
            .iter()
            .zip(&self.campaigns)
            .map(|(&clicked, &campaign)| Outcome { campaign, clicked, purchased: Some(clicked) })
            .collect()
    }

    fn rate(&self) -> f64 {
        self.clicked.iter().filter(|c| **c).count() as f64 / self.clicked.len() as f64
    }
}

fn said(p: &[f32]) -> Said<'_> {
    Said { p_click: p, p_purchase: p }
}

#[test]
fn the_first_model_must_beat_the_base_rate() {
    let world = world(4_000);
    let rival = Rival::BaseRate { click: world.rate() };
    let truth = decide(&world.outcomes(), said(&world.truth), rival, &GATE, 1);
    assert!(truth.publish, "{}", truth.reason);
    assert!(truth.gain.0 > 0.0);
    let flat = vec![world.rate() as f32 * 1.3; 4_000];
    let flat = decide(&world.outcomes(), said(&flat), rival, &GATE, 1);
    assert!(!flat.publish && flat.reason.contains("the base rate"), "{}", flat.reason);
}

#[test]
fn a_copy_of_the_champion_is_not_published() {
    let world = world(4_000);
    let decision =
        decide(&world.outcomes(), said(&world.truth), Rival::Champion(said(&world.truth)), &GATE, 1);
    assert!(!decision.publish);
    assert_eq!(decision.wins, 0.0);
}

#[test]
fn a_better_one_is_and_a_worse_one_is_not() {
    let world = world(6_000);
    let blurred: Vec<f32> =
        world.truth.iter().map(|p| (0.5 * p + 0.5 * world.rate() as f32).clamp(0.0, 1.0)).collect();
    let better = decide(&world.outcomes(), said(&world.truth), Rival::Champion(said(&blurred)), &GATE, 1);
    assert!(better.publish, "{}", better.reason);
    let worse = decide(&world.outcomes(), said(&blurred), Rival::Champion(said(&world.truth)), &GATE, 1);
    assert!(!worse.publish);
}

#[test]
fn one_campaign_broken_keeps_it_back() {
    let world = world(9_000);
    // Sharper for a and b than the champion, but campaign c is expected twice what comes.
    let champion = vec![world.rate() as f32; 9_000];
    let challenger: Vec<f32> = world
        .truth
        .iter()
        .zip(&world.clicked)
        .zip(&world.campaigns)
        .map(|((p, clicked), campaign)| match *campaign {
            "c" => 2.0 * world.rate() as f32,
            _ => 0.7 * p + 0.3 * f32::from(u8::from(*clicked)),
        })
        .collect();
    let decision = decide(&world.outcomes(), said(&challenger), Rival::Champion(said(&champion)), &GATE, 1);
    assert!(decision.wins > 0.95, "{decision:?}");
    assert!(!decision.publish);
    assert_eq!(decision.worse_campaigns.iter().map(|w| w.campaign.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn worse_purchases_keep_it_back() {
    let world = world(6_000);
    let blurred = vec![world.rate() as f32; 6_000];
    let bad = vec![0.9_f32; 6_000];
    let challenger = Said { p_click: &world.truth, p_purchase: &bad };
    let decision = decide(&world.outcomes(), challenger, Rival::Champion(said(&blurred)), &GATE, 1);
    assert!(!decision.publish && decision.reason.contains("purchases"), "{}", decision.reason);
    // Immature labels are no evidence.
    let immature: Vec<_> = world.outcomes().into_iter().map(|o| Outcome { purchased: None, ..o }).collect();
    let decision = decide(&immature, challenger, Rival::Champion(said(&blurred)), &GATE, 1);
    assert!(decision.publish && decision.purchase_gain.is_none(), "{}", decision.reason);
}

#[test]
fn nonsense_is_refused_and_equal_seeds_agree() {
    let world = world(500);
    let nan = vec![f32::NAN; 500];
    let rival = Rival::BaseRate { click: world.rate() };
    assert!(!decide(&world.outcomes(), said(&nan), rival, &GATE, 1).publish);
    assert!(!decide(&[], said(&[]), rival, &GATE, 1).publish);
    let once = decide(&world.outcomes(), said(&world.truth), rival, &GATE, 9);
    assert_eq!(once, decide(&world.outcomes(), said(&world.truth), rival, &GATE, 9));
}

/// What is true of two campaigns, where the champion says the rate; of the clicks of `c` it expects
/// as many as come, but not where they come.
fn lopsided(world: &World) -> (Vec<f32>, Vec<f32>) {
    let rate = world.rate() as f32;
    let champion = vec![rate; world.truth.len()];
    let rows = world.truth.iter().zip(&world.campaigns).enumerate();
    let challenger = rows
        .map(|(at, (truth, campaign))| match (*campaign, (at / 3) % 2) {
            ("c", 0) => 1.6 * rate,
            ("c", _) => 0.4 * rate,
            _ => *truth,
        })
        .collect();
    (challenger, champion)
}

#[test]
fn one_campaign_calibrated_worse_keeps_it_back() {
    let world = world(9_000);
    let (challenger, champion) = lopsided(&world);
    let judge =
        |gate: &Gate| decide(&world.outcomes(), said(&challenger), Rival::Champion(said(&champion)), gate, 1);
    let decision = judge(&GATE);
    assert!(decision.wins > 0.95 && decision.worse_campaigns.is_empty(), "{decision:?}");
    assert!(!decision.publish);
    let [found] = &decision.miscalibrated_campaigns[..] else { panic!("{decision:?}") };
    assert_eq!((found.campaign.as_str(), found.rows), ("c", 3_000));
    assert!(found.challenger > found.champion + 0.05 && found.increase.low > 0.02, "{found:?}");
    assert!((found.increase.mean - (found.challenger - found.champion)).abs() < 1e-12);
    for part in ["campaign c rose from", &format!("{:.4}", found.challenger), "0.0200 is allowed (1 such"] {
        assert!(decision.reason.contains(part), "{}", decision.reason);
    }
    // A looser bound, or more impressions asked for, lets it pass.
    assert!(judge(&Gate { max_campaign_ece_increase: 0.5, ..GATE }).publish);
    assert!(judge(&Gate { min_campaign_rows: 3_001, ..GATE }).publish);
}

#[test]
fn noise_in_a_campaigns_calibration_keeps_nothing_back() {
    // Both are the truth, blurred by noise of their own: each is the worse one for some campaigns.
    let world = world(6_000);
    let mut random = SplitMix::new(8);
    let mut blurred = |by: f32| -> Vec<f32> {
        let mut unit = || (random.next() >> 40) as f32 / (1 << 24) as f32;
        world.truth.iter().map(|p| (p + by * (unit() - 0.5)).clamp(0.001, 1.0)).collect()
    };
    let (challenger, champion) = (blurred(0.02), blurred(0.02));
    let gate = Gate { max_campaign_ece_increase: 0.0, min_campaign_rows: 1, ..GATE };
    let decision = decide(&world.outcomes(), said(&challenger), Rival::Champion(said(&champion)), &gate, 1);
    assert_eq!(decision.miscalibrated_campaigns, []);
}
