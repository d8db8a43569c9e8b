//! What an impression's click depends on, and how much: known to the market alone.

/// One driver of a click. Its contribution is in logits; all of them and the intercept make the
/// click's logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Driver {
    /// How readily the consumer clicks.
    User,
    /// The consumer's taste against the item's.
    Taste,
    /// The consumer's liking of the category.
    Liking,
    /// The campaign's appeal to everybody.
    Campaign,
    /// The consumer's taste against the campaign's style.
    Style,
    /// The item's appeal to everybody.
    Item,
    /// What the consumer clicked lately in the category.
    Habit,
    /// How often the consumer passed the campaign over lately.
    Fatigue,
    /// The hour of the day, alike for all.
    Hour,
    /// How the campaign's appeal moves over days.
    Swing,
    /// The slot.
    Placement,
    /// The device.
    Device,
    /// The channel.
    Channel,
    /// The category's appeal to everybody.
    Category,
    /// The price, and what the consumer makes of it.
    Price,
    /// How well the category goes with the device.
    CategoryDevice,
    /// How near the hour is to the campaign's best.
    CampaignHour,
    /// Where the consumer's taste has moved to.
    Drift,
}

impl Driver {
    /// How many there are.
    pub const COUNT: usize = 18;

    /// All of them, in the order of [`Drivers::logits`].
    pub const ALL: [Self; Self::COUNT] = [
        Self::User,
        Self::Taste,
        Self::Liking,
        Self::Campaign,
        Self::Style,
        Self::Item,
        Self::Habit,
        Self::Fatigue,
        Self::Hour,
        Self::Swing,
        Self::Placement,
        Self::Device,
        Self::Channel,
        Self::Category,
        Self::Price,
        Self::CategoryDevice,
        Self::CampaignHour,
        Self::Drift,
    ];

    /// A short name, `snake_case`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Taste => "taste",
            Self::Liking => "liking",
            Self::Campaign => "campaign",
            Self::Style => "style",
            Self::Item => "item",
            Self::Habit => "habit",
            Self::Fatigue => "fatigue",
            Self::Hour => "hour",
            Self::Swing => "swing",
            Self::Placement => "placement",
            Self::Device => "device",
            Self::Channel => "channel",
            Self::Category => "category",
            Self::Price => "price",
            Self::CategoryDevice => "category_device",
            Self::CampaignHour => "campaign_hour",
            Self::Drift => "drift",
        }
    }
}

/// What each driver adds to the click's logit of one impression.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Drivers {
    /// By [`Driver::ALL`]; 0 for what plays no part in this kind of market.
    pub logits: [f64; Driver::COUNT],
}

impl Drivers {
    /// One driver's contribution, logits.
    pub const fn of(&self, driver: Driver) -> f64 {
        self.logits[driver as usize]
    }

    /// Each driver with its contribution, logits.
    pub fn iter(&self) -> impl Iterator<Item = (Driver, f64)> + '_ {
        Driver::ALL.into_iter().zip(self.logits)
    }

    pub(crate) fn from_pairs(pairs: &[(Driver, f64)]) -> Self {
        let mut drivers = Self::default();
        for (driver, logit) in pairs {
            drivers.logits[*driver as usize] = *logit;
        }
        drivers
    }

    /// The logit without its intercept: the sum, in order.
    pub(crate) fn sum(&self) -> f64 {
        self.logits.iter().sum()
    }
}
