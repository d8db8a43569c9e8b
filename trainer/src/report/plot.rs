//! Charts of lines and points as SVG. Series differ in dash and mark besides colour, and are named
//! in text.

use super::markup::{esc, put};

/// Units of the drawing; a phone shows about one pixel for each.
const WIDTH: f64 = 360.0;
const PLOT: f64 = 220.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const BELOW: f64 = 36.0;
/// Height of a line of the legend.
const LINE: f64 = 15.0;

/// What tells series apart besides their colour.
pub(super) const DASHES: [&str; 5] = ["none", "7 3", "2 3", "9 3 2 3", "1 4"];

/// An axis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Axis<'a> {
    pub(super) label: &'a str,
    /// From where to where; of the data, if it does not say.
    pub(super) range: Option<(f64, f64)>,
}

/// One line.
#[derive(Debug, Clone, Default)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
    /// Draws a mark at each point.
    pub(super) marked: bool,
    /// Lower and upper end of each point, if they are known.
    pub(super) intervals: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone, Default)]
pub(super) struct Chart<'a> {
    /// What it is, for those who do not see it too.
    pub(super) title: &'a str,
    /// What is to be seen, in a sentence.
    pub(super) caption: String,
    pub(super) x: Axis<'a>,
    pub(super) y: Axis<'a>,
    pub(super) series: Vec<Series<'a>>,
    /// Draws a line from one corner to the other, with this name.
    pub(super) diagonal: Option<&'a str>,
    /// A vertical line, named.
    pub(super) at: Option<(f64, &'a str)>,
    /// Bars behind the lines: from, to, how many. They have no axis; the highest fills a third.
    pub(super) bars: Vec<(f64, f64, u64)>,
}

/// A mark, centred on 0: circle, square, triangle, diamond, cross.
pub(super) fn mark(series: usize) -> &'static str {
    [
        "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
        "M-2.7 -2.7h5.4v5.4h-5.4z",
        "M0 -3.4l3.2 6h-6.4z",
        "M0 -3.8l3.4 3.8l-3.4 3.8l-3.4 -3.8z",
        "M-3 -3l6 6m0 -6l-6 6",
    ][series % 5]
}

/// Round numbers, about `most` of them, that lie in the range.
pub(super) fn ticks((low, high): (f64, f64), most: usize) -> Vec<f64> {
    let rough = (high - low) / most.max(1) as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|of| of * power).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|at| at as f64 * step).collect()
}

/// A tick's label: as many decimals as tell neighbours apart.
pub(super) fn tick_label(value: f64, ticks: &[f64]) -> String {
    let step = if let [a, b, ..] = ticks { (b - a).abs() } else { value.abs() };
    if value.abs() >= 10_000.0 && step >= 100.0 {
        return format!("{}k", (value / 100.0).round() / 10.0);
    }
    let decimals = if step > 0.0 { (-step.log10() - 1e-9).ceil().clamp(0.0, 8.0) as usize } else { 0 };
    format!("{value:.decimals$}")
}

/// The range of finite values, a little wider; one around a single value.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let margin = if high > low { 0.04 * (high - low) } else { low.abs().max(1e-3) * 0.1 };
    Some((low - margin, high + margin))
}

/// Where values lie on the drawing.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
    top: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        let share = (value - self.x.0) / (self.x.1 - self.x.0);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.y.0) / (self.y.1 - self.y.0);
        self.top + PLOT - share.clamp(0.0, 1.0) * PLOT
    }
}

/// Draws a chart as a figure; says so where there is nothing to draw.
pub(super) fn chart(page: &mut String, chart: &Chart<'_>) {
    let title = esc(chart.title);
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let ends = || chart.series.iter().flat_map(|series| &series.intervals).flat_map(|(a, b)| [*a, *b]);
    let x = chart.x.range.or_else(|| range(points().map(|point| point.0)));
    let y = chart.y.range.or_else(|| range(points().map(|point| point.1).chain(ends())));
    let (Some(x), Some(y)) = (x, y) else {
        put!(page, "<p>{title}: there is nothing to draw.</p>\n");
        return;
    };
    let named: Vec<&Series<'_>> = chart.series.iter().filter(|series| !series.points.is_empty()).collect();
    let lines = named.len() + usize::from(chart.diagonal.is_some()) + usize::from(chart.at.is_some());
    let top = 8.0 + LINE * lines as f64;
    let scale = Scale { x, y, top };
    let height = top + PLOT + BELOW;
    put!(
        page,
        "<figure><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}. {}\">\
         <title>{title}</title>\n",
        esc(&chart.caption)
    );
    axes(page, chart, &scale);
    bars(page, chart, &scale);
    if chart.diagonal.is_some() {
        let (low, high) = (x.0.max(y.0), x.1.min(y.1));
        put!(
            page,
            "<path class=\"diagonal\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>\n",
            scale.x(low),
            scale.y(low),
            scale.x(high),
            scale.y(high)
        );
    }
    if let Some((at, _)) = chart.at {
        let x = scale.x(at);
        put!(page, "<path class=\"at\" d=\"M{x:.1} {:.1}V{:.1}\"/>\n", top, top + PLOT);
    }
    for (number, series) in named.iter().enumerate() {
        line(page, number, series, &scale);
    }
    legend(page, chart, &named);
    put!(page, "</svg><figcaption><b>{title}.</b> {}</figcaption></figure>\n", esc(&chart.caption));
}

fn axes(page: &mut String, chart: &Chart<'_>, scale: &Scale) {
    let bottom = scale.top + PLOT;
    let (across, up) = (ticks(scale.x, 5), ticks(scale.y, 5));
    for &tick in &up {
        let y = scale.y(tick);
        put!(
            page,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" class=\"end\">{}</text>\n",
            WIDTH - RIGHT,
            LEFT - 4.0,
            y + 3.5,
            tick_label(tick, &up)
        );
    }
    for &tick in &across {
        let x = scale.x(tick);
        put!(
            page,
            "<path class=\"grid\" d=\"M{x:.1} {}V{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" class=\"mid\">{}</text>\n",
            scale.top,
            bottom + 13.0,
            tick_label(tick, &across)
        );
    }
    let middle = scale.top + PLOT / 2.0;
    put!(
        page,
        "<path class=\"axis\" d=\"M{LEFT} {}V{bottom}H{}\"/><text x=\"{}\" y=\"{}\" class=\"mid\">{}</text>\
         <text x=\"10\" y=\"{middle}\" class=\"mid\" transform=\"rotate(-90 10 {middle})\">{}</text>\n",
        scale.top,
        WIDTH - RIGHT,
        (LEFT + WIDTH - RIGHT) / 2.0,
        bottom + 29.0,
        esc(chart.x.label),
        esc(chart.y.label)
    );
}

fn bars(page: &mut String, chart: &Chart<'_>, scale: &Scale) {
    let most = chart.bars.iter().map(|bar| bar.2).max().unwrap_or(0).max(1) as f64;
    let bottom = scale.top + PLOT;
    for &(from, to, count) in chart.bars.iter().filter(|bar| bar.2 > 0) {
        let height = (PLOT / 3.0 * count as f64 / most).max(0.7);
        put!(
            page,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{count}</title></rect>\n",
            scale.x(from) + 0.5,
            bottom - height,
            (scale.x(to) - scale.x(from) - 1.0).max(0.5)
        );
    }
}

fn line(page: &mut String, number: usize, series: &Series<'_>, scale: &Scale) {
    let class = number % DASHES.len();
    let mut path = String::new();
    for (x, y) in series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let step = if path.is_empty() { 'M' } else { 'L' };
        put!(&mut path, "{step}{:.1} {:.1}", scale.x(*x), scale.y(*y));
    }
    put!(
        page,
        "<path class=\"line s{class}\" stroke-dasharray=\"{}\" d=\"{path}\"><title>{}</title></path>\n",
        DASHES[class],
        esc(series.name)
    );
    for ((x, _), (low, high)) in series.points.iter().zip(&series.intervals) {
        let (x, low, high) = (scale.x(*x), scale.y(*low), scale.y(*high));
        put!(page, "<path class=\"line s{class}\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>\n");
    }
    if series.marked {
        for (x, y) in series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            put!(
                page,
                "<path class=\"mark s{class}\" transform=\"translate({:.1} {:.1})\" d=\"{}\"/>\n",
                scale.x(*x),
                scale.y(*y),
                mark(number)
            );
        }
    }
}

fn legend(page: &mut String, chart: &Chart<'_>, named: &[&Series<'_>]) {
    let mut y = 10.0;
    let mut entry = |page: &mut String, class: &str, dash: &str, number: Option<usize>, name: &str| {
        put!(
            page,
            "<path class=\"{class}\" stroke-dasharray=\"{dash}\" d=\"M{LEFT} {y}h26\"/><text x=\"{}\" y=\"{}\">{}</text>\n",
            LEFT + 32.0,
            y + 3.5,
            esc(name)
        );
        if let Some(number) = number {
            put!(
                page,
                "<path class=\"mark s{}\" transform=\"translate({} {y})\" d=\"{}\"/>\n",
                number % DASHES.len(),
                LEFT + 13.0,
                mark(number)
            );
        }
        y += LINE;
    };
    for (number, series) in named.iter().enumerate() {
        let class = number % DASHES.len();
        let marked = series.marked.then_some(number);
        entry(page, &format!("line s{class}"), DASHES[class], marked, series.name);
    }
    if let Some(name) = chart.diagonal {
        entry(page, "diagonal", "4 4", None, name);
    }
    if let Some((_, name)) = chart.at {
        entry(page, "at", "1 2", None, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let at = ticks((0.0, 1.0), 5);
        assert_eq!(at.len(), 6);
        assert_eq!(tick_label(at[1], &at), "0.2");
        let at = ticks((0.131, 0.147), 5);
        assert!(at.iter().all(|tick| (0.131..=0.147).contains(tick)) && at.len() >= 3, "{at:?}");
        let at = ticks((0.0, 52_000.0), 5);
        assert_eq!(tick_label(at[1], &at), "20k");
        assert!(ticks((1.0, 1.0), 5).is_empty());
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let series = Series { name: "a", points: vec![(0.0, f64::NAN), (1.0, 2.0)], ..Series::default() };
        let mut page = String::new();
        chart(&mut page, &Chart { title: "t", series: vec![series], ..Chart::default() });
        assert!(page.contains("<svg") && !page.contains("NaN"), "{page}");
        page.clear();
        chart(&mut page, &Chart { title: "t", ..Chart::default() });
        assert!(page.contains("nothing to draw"));
    }
}
