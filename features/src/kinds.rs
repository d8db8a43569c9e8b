//! Kinds of events as the state tells them apart, and what declarations call by a kind's name.

/// Kinds of events as the state tells them apart: view, click, cart, purchase, refund.
pub(crate) const KINDS: usize = 5;
/// Index of views.
pub(crate) const VIEW: usize = 0;
/// Index of clicks that are no carts.
pub(crate) const CLICK: usize = 1;
/// Index of carts.
pub(crate) const CART: usize = 2;
/// Index of purchases.
pub(crate) const PURCHASE: usize = 3;
/// Index of refunds.
pub(crate) const REFUND: usize = 4;

/// What an aggregation ranges over: one kind, or clicks with carts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KindSet {
    /// Views.
    View,
    /// Clicks and carts.
    Click,
    /// Carts.
    Cart,
    /// Purchases.
    Purchase,
    /// Refunds.
    Refund,
}

impl KindSet {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("view", Self::View),
        ("click", Self::Click),
        ("cart", Self::Cart),
        ("purchase", Self::Purchase),
        ("refund", Self::Refund),
    ];

    /// The kinds' indices.
    pub(crate) const fn indices(self) -> &'static [usize] {
        match self {
            Self::View => &[VIEW],
            Self::Click => &[CLICK, CART],
            Self::Cart => &[CART],
            Self::Purchase => &[PURCHASE],
            Self::Refund => &[REFUND],
        }
    }

    pub(crate) const fn has_value(self) -> bool {
        matches!(self, Self::View | Self::Purchase | Self::Refund)
    }

    /// The kinds that have a value, a bit each.
    pub(crate) const VALUED: u32 = 1 << VIEW | 1 << PURCHASE | 1 << REFUND;

    /// The one of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kinds)| *kinds)
    }

    /// The kinds, a bit each.
    pub(crate) fn bits(self) -> u32 {
        self.indices().iter().fold(0, |bits, kind| bits | 1 << kind)
    }

    /// A bit for each that takes a kind.
    pub(crate) fn taking(kind: usize) -> u32 {
        1 << kind | if kind == CART { 1 << CLICK } else { 0 }
    }
}
