//! Charts of one row per name as SVG: bars from 0, or points with their intervals.

use super::markup::{esc, figure, put};
use super::plot::{mark, tick_label, ticks};

const WIDTH: f64 = 360.0;
/// Where bars and points begin and end; names lie to the left, values to the right.
const LEFT: f64 = 118.0;
const RIGHT: f64 = 54.0;
const ROW: f64 = 18.0;
/// Characters of a name that have room.
const NAME: usize = 19;

/// A value with the ends of its interval, where there is one.
pub(super) type Point = Option<(f64, Option<(f64, f64)>)>;

/// Names of rows fitted into their room; the whole name is the row's title.
fn fitted(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

fn open(page: &mut String, title: &str, caption: &str, height: f64) {
    let title = esc(title);
    put!(
        page,
        "<figure><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}. {}\">\
         <title>{title}</title>\n",
        esc(caption)
    );
}

fn close(page: &mut String, title: &str, caption: &str) {
    put!(page, "</svg><figcaption><b>{}.</b> {}</figcaption></figure>\n", esc(title), esc(caption));
}

fn name_row(page: &mut String, name: &str, y: f64) {
    put!(
        page,
        "<text x=\"{}\" y=\"{:.1}\" class=\"end\">{}<title>{}</title></text>\n",
        LEFT - 6.0,
        y + 3.5,
        esc(fitted(name)),
        esc(name)
    );
}

/// A bar for each value that is not negative, longest where the value is largest.
pub(super) fn bars(page: &mut String, title: &str, caption: &str, rows: &[(String, f64)]) {
    let most = rows.iter().map(|row| row.1).fold(0.0, f64::max);
    if rows.is_empty() || most <= 0.0 {
        put!(page, "<p>{}: there is nothing to draw.</p>\n", esc(title));
        return;
    }
    open(page, title, caption, ROW * rows.len() as f64 + 8.0);
    for (at, (name, value)) in rows.iter().enumerate() {
        let y = 4.0 + ROW * (at as f64 + 0.5);
        let width = (value.max(0.0) / most * (WIDTH - LEFT - RIGHT)).max(0.5);
        name_row(page, name, y);
        put!(
            page,
            "<rect class=\"fill\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            y - 6.0,
            12,
            LEFT + width + 4.0,
            y + 3.5,
            figure(*value)
        );
    }
    close(page, title, caption);
}

/// Points with their intervals, by row and, within it, by series.
pub(super) fn points(
    page: &mut String,
    title: &str,
    caption: &str,
    series: &[&str],
    rows: &[(String, Vec<Point>)],
) {
    let values = || rows.iter().flat_map(|row| row.1.iter().flatten());
    let ends = values().flat_map(|(value, ends)| {
        let (low, high) = ends.unwrap_or((*value, *value));
        [low, high, *value]
    });
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if !(low.is_finite() && high.is_finite()) {
        put!(page, "<p>{}: there is nothing to draw.</p>\n", esc(title));
        return;
    }
    let margin = if high > low { 0.03 * (high - low) } else { 0.5 };
    let range = (low - margin, high + margin);
    let x = |value: f64| LEFT + (value - range.0) / (range.1 - range.0) * (WIDTH - LEFT - 14.0);
    let top = 8.0 + 15.0 * series.len() as f64;
    let step = ROW.max(9.0 * series.len() as f64 + 4.0);
    let bottom = top + step * rows.len() as f64;
    open(page, title, caption, bottom + 20.0);
    for (number, name) in series.iter().enumerate() {
        let y = 10.0 + 15.0 * number as f64;
        put!(
            page,
            "<path class=\"line s{number}\" d=\"M{LEFT} {y}h26\"/>\
             <path class=\"mark s{number}\" transform=\"translate({} {y})\" d=\"{}\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>\n",
            LEFT + 13.0,
            mark(number),
            LEFT + 32.0,
            y + 3.5,
            esc(name)
        );
    }
    let at = ticks(range, 4);
    for &tick in &at {
        let x = x(tick);
        put!(
            page,
            "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" class=\"mid\">{}</text>\n",
            bottom + 13.0,
            tick_label(tick, &at)
        );
    }
    for (number, (name, of)) in rows.iter().enumerate() {
        let middle = top + step * (number as f64 + 0.5);
        name_row(page, name, middle);
        for (series, point) in of.iter().enumerate() {
            let Some((value, ends)) = point else { continue };
            let y = middle + 9.0 * (series as f64 - (of.len() as f64 - 1.0) / 2.0);
            if let Some((low, high)) = ends {
                let (low, high) = (x(*low), x(*high));
                put!(page, "<path class=\"line s{series}\" d=\"M{low:.1} {y:.1}H{high:.1}\"/>");
            }
            put!(
                page,
                "<path class=\"mark s{series}\" transform=\"translate({:.1} {y:.1})\" d=\"{}\"><title>{}</title></path>\n",
                x(*value),
                mark(series),
                figure(*value)
            );
        }
    }
    close(page, title, caption);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_kept_in_the_title() {
        let name = "a campaign with a name that is long";
        assert_eq!(fitted(name).chars().count(), NAME);
        let mut page = String::new();
        bars(&mut page, "t", "c", &[(name.to_owned(), 1.0)]);
        assert!(page.contains(&format!("<title>{name}</title>")), "{page}");
        page.clear();
        points(&mut page, "t", "c", &["one"], &[("a".into(), vec![None])]);
        assert!(page.contains("nothing to draw"));
    }
}
