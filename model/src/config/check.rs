//! What the settings' types alone do not say: ranges, and what goes with what.

use super::{Config, EncoderConfig, HeadKind, TrainingConfig, Unmatured};

/// A value that no model can be built with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model.{key} = {value}: {what}")]
pub struct ConfigError {
    /// Key, from `model.` on.
    pub key: &'static str,
    /// The value found.
    pub value: String,
    /// What it must be.
    pub what: &'static str,
}

fn check<T: std::fmt::Debug>(
    ok: bool,
    key: &'static str,
    value: &T,
    what: &'static str,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError { key, value: format!("{value:?}"), what }) }
}

impl Config {
    /// Checks what the types alone don't say.
    ///
    /// # Errors
    /// The first value that no model can be built with.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let network = &self.network;
        check(
            matches!(network.width, 8 | 16 | 32 | 64),
            "network.width",
            &network.width,
            "must be 8, 16, 32 or 64",
        )?;
        check(network.layers <= 4, "network.layers", &network.layers, "must be 0 to 4")?;
        check(
            network.heads > 0
                && network.heads.checked_mul(8).is_some_and(|heads| network.width.is_multiple_of(heads)),
            "network.heads",
            &network.heads,
            "must divide network.width into heads whose width is a multiple of 8",
        )?;
        check(
            network.cnn_kernel % 2 == 1 && network.cnn_kernel <= 15,
            "network.cnn_kernel",
            &network.cnn_kernel,
            "must be odd, 1 to 15",
        )?;
        check(network.cross_layers <= 4, "network.cross_layers", &network.cross_layers, "must be 0 to 4")?;
        check(
            (1..=1024).contains(&network.cross_rank),
            "network.cross_rank",
            &network.cross_rank,
            "must be 1 to 1024",
        )?;
        check(
            !network.mlp.is_empty() && network.mlp.iter().all(|width| (1..=8192).contains(width)),
            "network.mlp",
            &network.mlp,
            "needs at least one hidden layer, each 1 to 8192 wide",
        )?;
        check(
            (0.0..1.0).contains(&network.dropout),
            "network.dropout",
            &network.dropout,
            "must be 0 to less than 1",
        )?;
        self.encoder.validate()?;
        let training = &self.training;
        for (key, rate) in [
            ("training.learning_rate", training.learning_rate),
            ("training.embedding_learning_rate", training.embedding_learning_rate),
        ] {
            check(rate.is_finite() && rate > 0.0, key, &rate, "must be greater than 0")?;
        }
        for (key, value) in [
            ("training.weight_decay", training.weight_decay),
            ("training.embedding_weight_decay", training.embedding_weight_decay),
            ("training.clip_norm", training.clip_norm),
            ("training.conversion_weight", training.conversion_weight),
            ("training.view_through_weight", training.view_through_weight),
            ("training.value_weight", training.value_weight),
        ] {
            check(value.is_finite() && value >= 0.0, key, &value, "must be 0 or greater")?;
        }
        for (key, count) in [
            ("training.batch_size", training.batch_size),
            ("training.max_epochs", training.max_epochs),
            ("training.validations_per_epoch", training.validations_per_epoch),
            ("training.patience", training.patience),
            ("training.shuffle_blocks", training.shuffle_blocks),
        ] {
            check(count > 0, key, &count, "must be at least 1")?;
        }
        let corrects = matches!(training.unmatured, Unmatured::Delayed | Unmatured::FakeNegativeWeighted);
        check(
            network.head == HeadKind::MultiTask || !corrects,
            "network.head",
            &network.head,
            "must be MultiTask where training.unmatured corrects for delays",
        )?;
        check(
            network.head == HeadKind::MultiTask || training.value_weight == 0.0,
            "training.value_weight",
            &training.value_weight,
            "must be 0 where network.head is not multi_task",
        )?;
        training.validate_learning()
    }
}

impl EncoderConfig {
    /// Checks what the types alone don't say.
    ///
    /// # Errors
    /// The first value that no encoder can be made with.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, buckets) in [
            ("encoder.item_buckets", self.item_buckets),
            ("encoder.campaign_buckets", self.campaign_buckets),
            ("encoder.category_buckets", self.category_buckets),
            ("encoder.brand_buckets", self.brand_buckets),
            ("encoder.placement_buckets", self.placement_buckets),
            ("encoder.device_buckets", self.device_buckets),
            ("encoder.channel_buckets", self.channel_buckets),
        ] {
            check((2..=1 << 27).contains(&buckets), key, &buckets, "must be 2 to 134217728")?;
        }
        check(
            self.user_buckets == 0 || (2..=1 << 27).contains(&self.user_buckets),
            "encoder.user_buckets",
            &self.user_buckets,
            "must be 0 (off) or 2 to 134217728",
        )?;
        for field in &self.dictionaries {
            check(
                crate::encode::field_names().any(|name| name == field),
                "encoder.dictionaries",
                field,
                "must be one of item, campaign, category, brand, placement, device, channel, user",
            )?;
        }
        check(
            self.max_behaviours <= 256,
            "encoder.max_behaviours",
            &self.max_behaviours,
            "must be at most 256",
        )?;
        check(
            self.content_embedding <= 8192,
            "encoder.content_embedding",
            &self.content_embedding,
            "must be at most 8192",
        )?;
        check(
            (1..=64).contains(&self.max_fields_per_token),
            "encoder.max_fields_per_token",
            &self.max_fields_per_token,
            "must be 1 to 64",
        )?;
        Ok(())
    }
}

impl TrainingConfig {
    fn validate_learning(&self) -> Result<(), ConfigError> {
        for (key, share) in [
            ("training.momentum", self.momentum),
            ("training.averaging", self.averaging),
            ("training.label_smoothing", self.label_smoothing),
            ("training.feature_dropout", self.feature_dropout),
            ("training.id_dropout", self.id_dropout),
        ] {
            check((0.0..1.0).contains(&share), key, &share, "must be 0 to less than 1")?;
        }
        for (key, share) in [
            ("training.final_rate_share", self.final_rate_share),
            ("training.mixup", self.mixup),
            ("training.behaviour_crop", self.behaviour_crop),
        ] {
            check((0.0..=1.0).contains(&share), key, &share, "must be 0 to 1")?;
        }
        let factor = self.plateau_factor;
        check(
            factor > 0.0 && factor < 1.0,
            "training.plateau_factor",
            &factor,
            "must be greater than 0, less than 1",
        )?;
        let decays = self.plateau_decays;
        check(decays <= 16, "training.plateau_decays", &decays, "must be 0 to 16")?;
        let rate = self.negative_rate;
        check(
            rate > 0.0 && rate <= 1.0,
            "training.negative_rate",
            &rate,
            "must be greater than 0, at most 1",
        )?;
        let weight = self.positive_weight;
        check(
            weight.is_finite() && weight > 0.0,
            "training.positive_weight",
            &weight,
            "must be greater than 0",
        )?;
        let corrected = matches!(self.unmatured, Unmatured::Delayed | Unmatured::FakeNegativeWeighted);
        check(
            !corrected || (weight - 1.0).abs() < f32::EPSILON,
            "training.positive_weight",
            &weight,
            "must be 1 where training.unmatured corrects for delays",
        )
    }
}
