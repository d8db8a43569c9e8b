//! Which numbers share a field token. Attention costs the square of the tokens, and the windows of
//! one feature say much the same, so they are one token: `user_views_1h` and `user_views_7d` are
//! columns of `user_views`.

/// Numbers that make one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The feature's name without its window; of a group of one, the column's name.
    pub name: String,
    /// Positions of its columns among the encoder's numbers, ascending.
    pub columns: Vec<usize>,
}

/// The name without a window at its end (`_10m`, `_7d`), if it has one.
fn without_window(name: &str) -> Option<&str> {
    let (stem, window) = name.rsplit_once('_')?;
    let digits = window.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit = &window[digits.len()..];
    let is_window = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && matches!(unit, "ms" | "s" | "m" | "h" | "d" | "w");
    (is_window && !stem.is_empty()).then_some(stem)
}

/// Groups columns by feature, then those without a window by the first word of their name; in
/// order of first appearance, at most `limit` columns each.
pub fn group_fields<'a>(names: impl IntoIterator<Item = &'a str>, limit: usize) -> Vec<Group> {
    let mut groups: Vec<(String, Vec<(usize, String)>)> = Vec::new();
    for (position, name) in names.into_iter().enumerate() {
        let key = without_window(name)
            .map_or_else(|| name.split('_').next().unwrap_or(name).to_owned(), str::to_owned);
        let column = (position, name.to_owned());
        match groups.iter_mut().find(|(other, columns)| *other == key && columns.len() < limit.max(1)) {
            Some((_, columns)) => columns.push(column),
            None => groups.push((key, vec![column])),
        }
    }
    groups
        .into_iter()
        .map(|(key, columns)| Group {
            name: match columns.as_slice() {
                [(_, only)] => only.clone(),
                _ => key,
            },
            columns: columns.into_iter().map(|(position, _)| position).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(groups: &[Group]) -> Vec<(&str, &[usize])> {
        groups.iter().map(|group| (group.name.as_str(), group.columns.as_slice())).collect()
    }

    #[test]
    fn windows_of_one_feature_share_a_token() {
        let groups = group_fields(["user_views_1h", "user_views_7d", "hour_sin", "hour_cos", "price"], 8);
        assert_eq!(names(&groups), [("user_views", &[0, 1][..]), ("hour", &[2, 3]), ("price", &[4])]);
    }

    #[test]
    fn a_full_group_is_followed_by_another() {
        let groups = group_fields(["a_1h", "a_2h", "a_3h"], 2);
        assert_eq!(names(&groups), [("a", &[0, 1][..]), ("a_3h", &[2])]);
    }

    #[test]
    fn only_a_number_with_a_unit_is_a_window() {
        assert_eq!(without_window("user_last_n"), None);
        assert_eq!(without_window("_1h"), None);
        assert_eq!(without_window("rate_90d"), Some("rate"));
    }
}
