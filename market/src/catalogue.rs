//! The catalogue as the `items` topic carries it.

use serde::{Deserialize, Serialize};

/// One item, as JSON keyed by its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogueItem {
    /// The item.
    pub item_id: String,
    /// Its category.
    pub category: String,
    /// Its brand.
    pub brand: String,
    /// Price of one piece.
    pub price: f64,
    /// ISO 4217 code of the price.
    pub currency: String,
    /// Campaign that promotes it, where it is one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<String>,
    /// Content embedding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embedding: Vec<f32>,
}

impl CatalogueItem {
    /// Key and value of its record.
    pub fn record(&self) -> (String, Vec<u8>) {
        (self.item_id.clone(), crate::record::json(self))
    }
}
