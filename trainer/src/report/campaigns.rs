//! Campaign by campaign: a table of those with the most examples, and their AUC and calibration.

use model::metrics::{CampaignMetrics, CampaignsMetrics, Head, Interval};

use super::Comparison;
use super::figures::head_name;
use super::markup::{Cell, NONE, count, figure, paragraph, put, table};
use super::rows::{Point, points};

/// Campaigns that are shown one by one, per head.
pub const LISTED: usize = 30;

/// The section's contents; says so where campaigns were not told apart.
pub(super) fn section(page: &mut String, models: &Comparison<'_>) {
    let mut any = false;
    for head in [Head::Click, Head::Purchase] {
        let metrics = models.first.metrics.of(head);
        let Some(campaigns) = metrics.campaigns.as_deref().filter(|campaigns| !campaigns.largest.is_empty())
        else {
            continue;
        };
        any = true;
        let second = models.second.as_ref().and_then(|shown| shown.metrics.of(head).campaigns.as_deref());
        put!(page, "<h3>{}</h3>\n", head_name(head));
        shown(page, models, head, campaigns, second, metrics.examples);
    }
    if !any {
        paragraph(page, "Campaigns were not told apart.");
    }
}

fn shown(
    page: &mut String,
    models: &Comparison<'_>,
    head: Head,
    campaigns: &CampaignsMetrics,
    second: Option<&CampaignsMetrics>,
    examples: u64,
) {
    let largest = &campaigns.largest[..campaigns.largest.len().min(LISTED)];
    let inside: u64 = largest.iter().map(|campaign| campaign.examples).sum();
    let rest = campaigns.campaigns.saturating_sub(largest.len() as u64);
    let said = if rest == 0 {
        format!("All {} campaigns, those with the most impressions first.", count(campaigns.campaigns))
    } else {
        format!(
            "The {} campaigns with the most impressions; {} more hold the other {} impressions.",
            largest.len(),
            count(rest),
            count(examples.saturating_sub(inside))
        )
    };
    paragraph(
        page,
        format!("{said} Intervals of few impressions are wide, and an ECE of few is high by noise."),
    );
    let rows = largest.iter().map(|one| {
        vec![
            Cell::from(one.campaign.clone()),
            Cell::from(count(one.examples)),
            Cell::from(count(one.positives)),
            Cell::from(one.base_rate.map_or_else(|| NONE.to_owned(), figure)),
            Cell::from(one.mean_prediction.map_or_else(|| NONE.to_owned(), figure)),
            Cell::figure(one.log_loss, one.log_loss_interval),
            Cell::figure(one.auc, one.auc_interval),
            Cell::figure(one.calibration_error, one.calibration_interval),
        ]
    });
    let heading =
        ["campaign", "impressions", "positives", "share", "mean prediction", "log loss", "AUC", "ECE"];
    table(page, &format!("{} by campaign, {}", head_name(head), models.first.name), &heading, rows);

    let mut names = vec![models.first.name];
    names.extend(models.second.as_ref().filter(|_| second.is_some()).map(|shown| shown.name));
    let plot = |page: &mut String,
                what: &str,
                of: fn(&CampaignMetrics) -> (Option<f64>, Option<Interval>)| {
        let rows: Vec<(String, Vec<Point>)> = largest
            .iter()
            .map(|one| {
                let theirs = second
                    .and_then(|second| second.largest.iter().find(|other| other.campaign == one.campaign));
                let mut row = vec![point(of(one))];
                row.extend(second.map(|_| theirs.and_then(|theirs| point(of(theirs)))));
                (one.campaign.clone(), row)
            })
            .collect();
        let title = format!("{}: {what} by campaign", head_name(head));
        points(
            page,
            &title,
            "Points with their bootstrap intervals, in the order of the table.",
            &names,
            &rows,
        );
    };
    page.push_str("<div class=\"plots\">\n");
    plot(page, "AUC", |one| (one.auc, one.auc_interval));
    plot(page, "ECE", |one| (one.calibration_error, one.calibration_interval));
    page.push_str("</div>\n");
}

fn point((value, interval): (Option<f64>, Option<Interval>)) -> Point {
    Some((value?, interval.map(|interval| (interval.low, interval.high))))
}
