//! Text to markup. Whatever comes from data goes through [`esc`]; the rest of the module's functions
//! do it for their callers. What is written is well-formed as XML too.

use std::fmt::{self, Display, Write as _};

use model::metrics::Interval;

/// Text as markup shows it: in an element or an attribute.
pub(super) struct Esc<T>(T);

/// Escapes whatever can be displayed.
pub(super) const fn esc<T: Display>(text: T) -> Esc<T> {
    Esc(text)
}

impl<T: Display> Display for Esc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Writes what it is given, escaped.
struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                // Neither HTML nor XML has a way to write these; nor may they turn text around.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.write_char('\u{fffd}')?,
                control if control.is_control() && control != '\n' && control != '\t' => {
                    self.0.write_char('\u{fffd}')?;
                }
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Appends formatted markup. Writing to a `String` cannot fail.
macro_rules! put {
    ($page:expr, $($text:tt)*) => {{
        let _ = std::fmt::Write::write_fmt($page, format_args!($($text)*));
    }};
}
pub(super) use put;

/// What stands where nothing was measured.
pub(super) const NONE: &str = "–";

/// A figure as people read it: five significant digits of small ones.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "not a number".to_owned(),
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.5}"),
    }
}

/// A figure with its sign.
pub(super) fn signed(value: f64) -> String {
    if value > 0.0 { format!("+{}", figure(value)) } else { figure(value).replace('-', "−") }
}

/// A share of 1 as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A cell of a table: what it says, and what it says smaller below.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    small: Option<String>,
}

impl Cell {
    /// A figure with its interval; a dash where there is none.
    pub(super) fn figure(value: Option<f64>, interval: Option<Interval>) -> Self {
        let Some(value) = value else { return NONE.into() };
        let small = interval.map(|i| format!("{} to {}", figure(i.low), figure(i.high)));
        Self { text: figure(value), small }
    }

    /// The same with something smaller below.
    pub(super) fn with(mut self, small: impl Into<String>) -> Self {
        self.small = Some(small.into());
        self
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), small: None }
    }
}

/// A table in a box that scrolls by itself where it is wider than the page. The first cell of each
/// row names the row.
pub(super) fn table(
    page: &mut String,
    caption: &str,
    head: &[&str],
    rows: impl IntoIterator<Item = Vec<Cell>>,
) {
    let name = esc(caption);
    put!(page, "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{name}\"><table>");
    put!(page, "<caption><span>{name}</span></caption><thead><tr>");
    for heading in head {
        put!(page, "<th scope=\"col\">{}</th>", esc(heading));
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (at, cell) in row.into_iter().enumerate() {
            let (open, close) = if at == 0 { ("<th scope=\"row\">", "</th>") } else { ("<td>", "</td>") };
            put!(page, "{open}{}", esc(&cell.text));
            if let Some(small) = &cell.small {
                put!(page, "<small>{}</small>", esc(small));
            }
            page.push_str(close);
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// Names and what they stand for.
pub(super) fn facts(page: &mut String, facts: &[(String, String)]) {
    page.push_str("<dl>");
    for (name, value) in facts {
        put!(page, "<div><dt>{}</dt><dd>{}</dd></div>\n", esc(name), esc(value));
    }
    page.push_str("</dl>\n");
}

/// A paragraph.
pub(super) fn paragraph(page: &mut String, text: impl Display) {
    put!(page, "<p>{}</p>\n", esc(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(esc("<a & \"b\" 'c'>").to_string(), "&lt;a &amp; &quot;b&quot; &#39;c&#39;&gt;");
        assert_eq!(esc("a\u{0}b\u{202e}c").to_string(), "a\u{fffd}b\u{fffd}c");
        let mut page = String::new();
        table(&mut page, "<c>", &["<h>"], [vec![Cell::from("<r>").with("<s>")]]);
        facts(&mut page, &[("<n>".into(), "<v>".into())]);
        for raw in ["<c>", "<h>", "<r>", "<s>", "<n>", "<v>"] {
            assert!(!page.contains(raw), "{page}");
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(figure(0.123_456), "0.12346");
        assert_eq!((figure(12.345), figure(12_345.6)), ("12.35".to_owned(), "12346".to_owned()));
        assert_eq!((signed(0.1), signed(-0.1)), ("+0.10000".to_owned(), "−0.10000".to_owned()));
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(percent(0.1234), "12.3 %");
        assert_eq!(figure(f64::NAN), "not a number");
    }
}
