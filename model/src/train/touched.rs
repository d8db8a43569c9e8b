//! Which rows of the embedding tables training has moved so far. What is kept per row (moments,
//! the best values) is kept for these alone, so that it grows with the ids seen, not with the table.

/// Gives each row that is named a slot, counted from 0 in order of first use.
#[derive(Debug, Clone)]
pub(crate) struct Touched {
    /// Slot + 1 of each row; 0 has none. Zeroed memory that nobody writes takes up none.
    slots: Vec<u32>,
    rows: Vec<u32>,
}

impl Touched {
    /// For tables of `rows` rows together.
    pub(crate) fn new(rows: usize) -> Self {
        Self { slots: vec![0; rows], rows: Vec::new() }
    }

    /// As it was when `rows` had been named in that order.
    pub(crate) fn of(table_rows: usize, rows: &[u32]) -> Self {
        let mut touched = Self::new(table_rows);
        touched.name(rows);
        touched
    }

    /// The slots of `rows`.
    pub(crate) fn name(&mut self, rows: &[u32]) -> Vec<u32> {
        rows.iter()
            .map(|&row| {
                let slot = &mut self.slots[row as usize];
                if *slot == 0 {
                    self.rows.push(row);
                    *slot = self.rows.len() as u32;
                }
                *slot - 1
            })
            .collect()
    }

    /// The rows named so far, by slot.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_first_use() {
        let mut touched = Touched::new(10);
        assert_eq!(touched.name(&[7, 2]), [0, 1]);
        assert_eq!(touched.name(&[2, 9, 7]), [1, 2, 0]);
        assert_eq!(touched.rows(), [7, 2, 9]);
        let mut again = Touched::of(10, touched.rows());
        assert_eq!(again.name(&[9, 1]), [2, 3]);
    }
}
