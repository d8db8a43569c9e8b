//! Users who have not come for a while, out of memory: their histories lie in a [`Spill`] until they come back
//! or are to be forgotten.
//!
//! Who is out of memory depends on how much there is, and nothing that comes out depends on who is.

use std::cell::RefCell;
use std::sync::Arc;

use runtime::spill::{Spill, SpillError};

use crate::core::Core;
use crate::plan::Plan;
use crate::uses::Used;
use crate::wire::{Reader, Writer};

/// So much of the budget, as a share, may be taken until who has come lately goes, too.
const SLACK: usize = 8;

/// Where they are, and what is to be known to choose them.
#[derive(Debug)]
pub(crate) struct Cold {
    spill: Box<dyn Spill>,
    /// A bit per user: has come since the sweep last passed.
    recent: Vec<u64>,
    /// Users out of memory.
    count: usize,
    /// Bytes that the state takes beside users' blocks and heads, as of the last sweep of all users.
    beside: usize,
    /// Of these what has been seen by the sweep under way.
    seen: usize,
    /// What failed first. Outputs since then are wrong.
    failed: RefCell<Option<SpillError>>,
    bytes: Vec<u8>,
}

impl Cold {
    fn keep<T>(&self, result: Result<T, SpillError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed.borrow_mut().get_or_insert(error);
                None
            }
        }
    }
}

impl Core {
    /// Lets users go out of memory into this, if there is one.
    pub(crate) fn spill_to(&mut self, spill: Option<Box<dyn Spill>>) {
        self.cold = spill.map(|spill| Cold {
            spill,
            recent: Vec::new(),
            count: 0,
            beside: 0,
            seen: 0,
            failed: RefCell::default(),
            bytes: Vec::new(),
        });
    }

    /// The fold of nothing, whose users go out of memory into this as soon as there is too little.
    pub fn spilling(plan: Arc<Plan>, partition: i32, spill: Option<Box<dyn Spill>>) -> Self {
        let mut core = Self::new(plan, partition);
        core.spill_to(spill);
        core
    }

    /// Users out of memory.
    pub fn cold_users(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.count)
    }

    /// What kept a user from going out of memory or from coming back, if anything has: what was put out since
    /// the last call is wrong, and so is the state.
    pub fn take_failure(&mut self) -> Option<SpillError> {
        self.cold.as_mut().and_then(|cold| cold.failed.get_mut().take())
    }

    /// Bytes of state, about, that a budget is compared with.
    fn taken(&self, cold: &Cold) -> usize {
        self.users.outer_bytes() + cold.beside
    }

    /// The user has come, and is in memory from now on.
    pub(crate) fn warm(&mut self, user: u32) {
        let Some(cold) = &mut self.cold else { return };
        let word = user as usize / 64;
        if cold.recent.len() <= word {
            cold.recent.resize(word + 1, 0);
        }
        cold.recent[word] |= 1 << (user % 64);
        self.thaw(user);
    }

    /// Gets the user into memory.
    pub(crate) fn thaw(&mut self, user: u32) {
        let Some(cold) = self.cold.as_mut().filter(|_| self.users.is_cold(user)) else { return };
        cold.count -= 1;
        self.users.warm(user);
        let Some(bytes) = cold.keep(cold.spill.get(u64::from(user))) else { return };
        let (mut input, mut used) = (Reader::new(&bytes), Used::uncounted(&self.texts, &self.subjects));
        if let Err(error) = self.read_user(user, &mut input, &mut used)
            && let Some(cold) = &self.cold
        {
            let (action, folder, why) = ("read", "its store".to_owned(), error.to_string());
            cold.keep::<()>(Err(SpillError { action, folder, why }));
        }
    }

    /// The sweep passes the user: who has not come since it last did goes out of memory, if there is too little.
    pub(crate) fn cool(&mut self, user: u32) {
        let Some(mut cold) = self.cold.take() else { return };
        self.cool_into(user, &mut cold);
        self.cold = Some(cold);
    }

    fn cool_into(&mut self, user: u32, cold: &mut Cold) {
        cold.seen += self.users.extra_bytes(user);
        if user == 0 {
            cold.beside = std::mem::take(&mut cold.seen) + self.bytes_beside_users();
        }
        let (taken, budget) = (self.taken(cold), cold.spill.budget());
        let bit = 1 << (user % 64);
        let is_recent = cold.recent.get_mut(user as usize / 64).is_some_and(|word| {
            let is_recent = *word & bit > 0;
            *word &= !bit;
            is_recent
        });
        if taken <= budget || is_recent && taken <= budget + budget / SLACK || !self.users.can_cool(user) {
            return;
        }
        let mut bytes = Writer(std::mem::take(&mut cold.bytes));
        bytes.0.clear();
        self.write_user(user, &mut bytes);
        let put = cold.spill.put(u64::from(user), &bytes.0);
        if cold.keep(put).is_some() {
            // Nothing of the user is looked for until all of it has expired.
            let until_ms = self.users.last_event_ms(user).saturating_add(self.plan.retention_ms());
            self.users.cool(user);
            self.users.set_quiet_until(user, until_ms);
            cold.count += 1;
        }
        cold.bytes = bytes.0;
    }

    /// Writes what lies out of memory of a user.
    pub(crate) fn write_cold(&self, user: u32, out: &mut Writer) {
        let Some(cold) = &self.cold else { return };
        if let Some(bytes) = cold.keep(cold.spill.get(u64::from(user))) {
            out.0.extend_from_slice(&bytes);
        }
    }
}
