//! What has been emitted, by kind and fault: what the pipeline's own counts must come to.

use schemas::Kind;
use serde::{Deserialize, Serialize};

use crate::{Emission, Fault};

/// Counts of records, and of events where a record can be several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Views, first copies, not late: impressions that get a vector.
    pub views: u64,
    /// Clicks, first copies.
    pub clicks: u64,
    /// Carts, first copies.
    pub carts: u64,
    /// Orders, first copies.
    pub purchases: u64,
    /// Lines of these.
    pub purchase_lines: u64,
    /// Refunds, first copies.
    pub refunds: u64,
    /// Lines of these.
    pub refund_lines: u64,
    /// Records that were second copies.
    pub duplicates: u64,
    /// Lines of these: places in `duplicates`.
    pub duplicate_lines: u64,
    /// Late views.
    pub late: u64,
    /// Good records out of order, counted above as well.
    pub out_of_order: u64,
    /// Records with times far ahead.
    pub future: u64,
    /// Records that are no JSON object.
    pub garbage: u64,
    /// Records with wrong fields.
    pub wrong_type: u64,
    /// Records with values beyond all limits.
    pub huge: u64,
}

impl Counts {
    /// All records sent.
    pub const fn records(&self) -> u64 {
        self.views
            + self.clicks
            + self.carts
            + self.purchases
            + self.refunds
            + self.duplicates
            + self.late
            + self.dead_letters()
    }

    /// Events that belong in `events`, duplicates included.
    pub const fn events(&self) -> u64 {
        self.used() + self.duplicate_lines
    }

    /// Events that count: in `events`, and not a duplicate.
    pub const fn used(&self) -> u64 {
        self.views + self.clicks + self.carts + self.purchase_lines + self.refund_lines
    }

    /// Records that belong in `dead-letters`.
    pub const fn dead_letters(&self) -> u64 {
        self.future + self.garbage + self.wrong_type + self.huge
    }

    /// Counts one more record.
    pub(crate) fn add(&mut self, emission: &Emission) {
        let lines = u64::from(emission.lines);
        match emission.fault {
            Some(Fault::Duplicate) => {
                self.duplicates += 1;
                self.duplicate_lines += lines;
            }
            Some(Fault::Late) => self.late += 1,
            Some(Fault::Future) => self.future += 1,
            Some(Fault::Garbage) => self.garbage += 1,
            Some(Fault::WrongType) => self.wrong_type += 1,
            Some(Fault::Huge) => self.huge += 1,
            Some(Fault::OutOfOrder) => {
                self.out_of_order += 1;
                self.add_good(emission.kind, lines);
            }
            None => self.add_good(emission.kind, lines),
        }
    }

    fn add_good(&mut self, kind: Kind, lines: u64) {
        match kind {
            Kind::View => self.views += 1,
            Kind::Click => self.clicks += 1,
            Kind::Cart => self.carts += 1,
            Kind::Purchase => {
                self.purchases += 1;
                self.purchase_lines += lines;
            }
            Kind::Refund => {
                self.refunds += 1;
                self.refund_lines += lines;
            }
            // Only a faulty record is of no kind.
            Kind::Unknown => {}
        }
    }
}
