//! What events are about, as small numbers: item, campaign and category together, and what else the plan
//! asks for.
//!
//! An item nearly always comes with the same campaign and category, so one number and one look-up stand
//! for the three. Numbers are handed out in a fixed order (last freed first), so they are part of the
//! fold; the hash table is not.

use std::ops::Range;

use crate::image::{Chunks, Image, Marks, Part};
use crate::interner::{EMPTY, Interner};
use crate::summary::plan::Of;
use crate::table::Table;
use crate::text::mix;
use crate::uses::{Used, Uses};
use crate::wire::{Reader, SnapshotError, Writer, are_all_free};

/// Numbers of a chunk.
const CHUNK: usize = 64;

/// The texts' numbers, and how often the three are used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Subject {
    pub(crate) item: u32,
    pub(crate) campaign: u32,
    pub(crate) category: u32,
    uses: u32,
}

impl Subject {
    fn texts(&self) -> [u32; 3] {
        [self.item, self.campaign, self.category]
    }
}

/// What else is kept of an event: brand, placement, device and channel where anything reads them, and a bit
/// for each filter that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Also<'a> {
    pub(crate) texts: [&'a str; 4],
    pub(crate) filters: u32,
}

/// The same by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kept {
    texts: [u32; 4],
    filters: u32,
}

impl Kept {
    fn also(self, texts: &Interner) -> Also<'_> {
        Also { texts: self.texts.map(|id| texts.text(id)), filters: self.filters }
    }
}

/// The subjects of a partition. Number 0 is that of no texts: always there, never counted.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    all: Vec<Subject>,
    /// Their campaigns and categories once more: these are read for many events in turn.
    campaigns: Vec<u32>,
    categories: Vec<u32>,
    /// What else is kept of them, where the plan asks for anything.
    also: Vec<Kept>,
    free: Vec<u32>,
    table: Table,
    /// Whether more is kept of them than the three.
    is_wide: bool,
    marks: Marks,
}

impl Subjects {
    /// `is_wide`: whether more is kept of them than the three.
    pub(crate) fn new(is_wide: bool) -> Self {
        Self {
            all: vec![Subject::default()],
            campaigns: vec![EMPTY],
            categories: vec![EMPTY],
            also: Vec::new(),
            free: Vec::new(),
            table: Table::with_room(0),
            is_wide,
            marks: Marks::default(),
        }
    }

    /// How many numbers have been handed out; the greatest is one less.
    pub(crate) fn slots(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() * (size_of::<Subject>() + 8)
            + self.also.capacity() * size_of::<Kept>()
            + self.free.capacity() * 4
            + self.table.bytes()
    }

    pub(crate) fn get(&self, number: u32) -> Subject {
        self.all[number as usize]
    }

    pub(crate) fn campaign(&self, number: u32) -> u32 {
        self.campaigns[number as usize]
    }

    pub(crate) fn category(&self, number: u32) -> u32 {
        self.categories[number as usize]
    }

    fn kept(&self, number: u32) -> Kept {
        self.also.get(number as usize).copied().unwrap_or_default()
    }

    /// A text of the events about it; [`EMPTY`] where it is not kept.
    pub(crate) fn text(&self, number: u32, of: Of) -> u32 {
        match of {
            Of::Item => self.get(number).item,
            Of::Campaign => self.campaign(number),
            Of::Category => self.category(number),
            Of::Brand | Of::Placement | Of::Device | Of::Channel => {
                self.kept(number).texts[of as usize - Of::Brand as usize]
            }
            Of::User => EMPTY,
        }
    }

    /// A bit for each filter that takes the events about it.
    pub(crate) fn filters(&self, number: u32) -> u32 {
        self.kept(number).filters
    }

    /// The numbers of these names as far as hashes tell, where nothing else is kept of them, and their items,
    /// campaigns and categories; 0 where there is none. All that [`Self::intern`] will read is in the cache, or
    /// on its way to it.
    pub(crate) fn look_ahead<const N: usize>(
        &self,
        names: [[&str; 3]; N],
        texts: &Interner,
    ) -> ([u32; N], [[u32; 3]; N]) {
        // Step by step for all of them, so that they wait for memory together.
        let hashes = names.map(|names| hash(names, None));
        let numbers = hashes.map(|hash| self.table.first(hash));
        let ids = numbers.map(|number| self.all[number as usize].texts());
        texts.look_at(ids.map(|[item, ..]| item));
        texts.look_at(ids.map(|[_, campaign, _]| campaign));
        (numbers, ids)
    }

    /// Whether a number is of these names, and of what else is kept.
    #[inline]
    fn is_of(&self, number: u32, names: [&str; 3], also: Option<Also<'_>>, texts: &Interner) -> bool {
        let [item, campaign, category] = self.all[number as usize].texts();
        let [of_item, of_campaign, of_category] = names;
        texts.is(item, of_item)
            && texts.is(campaign, of_campaign)
            && texts.is(category, of_category)
            && also.is_none_or(|also| {
                let kept = self.kept(number);
                kept.filters == also.filters
                    && kept.texts.iter().zip(also.texts).all(|(id, name)| texts.is(*id, name))
            })
    }

    /// As [`Self::intern`], where the number is perhaps this one.
    pub(crate) fn intern_like(
        &mut self,
        perhaps: u32,
        names: [&str; 3],
        also: Option<Also<'_>>,
        texts: &mut Interner,
    ) -> u32 {
        // A number that is free has no texts: it is not that of any names but of none.
        if perhaps != EMPTY && !names[0].is_empty() && self.is_of(perhaps, names, also, texts) {
            self.subject_mut(perhaps).uses += 1;
            return perhaps;
        }
        self.intern(names, also, texts)
    }

    /// The number of item, campaign and category, and of what else is kept, with one use more.
    pub(crate) fn intern(&mut self, names: [&str; 3], also: Option<Also<'_>>, texts: &mut Interner) -> u32 {
        if names.iter().all(|name| name.is_empty()) && also.is_none_or(|also| also == Also::default()) {
            return EMPTY;
        }
        let hash = hash(names, also);
        if let Some(number) = self.table.find(hash, |number| self.is_of(number, names, also, texts)) {
            self.subject_mut(number).uses += 1;
            return number;
        }
        let [item, campaign, category] = names.map(|name| texts.intern(name));
        let subject = Subject { item, campaign, category, uses: 1 };
        let number = if let Some(number) = self.free.pop() {
            number
        } else {
            self.touch((self.all.len() / CHUNK) as u64);
            self.all.push(subject);
            self.campaigns.push(EMPTY);
            self.categories.push(EMPTY);
            self.all.len() as u32 - 1
        };
        *self.subject_mut(number) = subject;
        if let Some(Also { texts: names, filters }) = also {
            self.also.resize(self.all.len(), Kept::default());
            self.also[number as usize] = Kept { texts: names.map(|name| texts.intern(name)), filters };
        }
        self.campaigns[number as usize] = campaign;
        self.categories[number as usize] = category;
        self.table.insert(hash, number);
        number
    }

    /// One use more.
    pub(crate) fn retain(&mut self, number: u32) {
        if number != EMPTY {
            self.subject_mut(number).uses += 1;
        }
    }

    /// A subject that is about to change.
    fn subject_mut(&mut self, number: u32) -> &mut Subject {
        self.touch(u64::from(number) / CHUNK as u64);
        &mut self.all[number as usize]
    }

    /// One use less. With the last one the number is free, and a use of each text ends.
    pub(crate) fn release(&mut self, number: u32, texts: &mut Interner) {
        if number == EMPTY {
            return;
        }
        let subject = self.subject_mut(number);
        debug_assert!(subject.uses > 0, "released more often than used");
        subject.uses -= 1;
        if subject.uses > 0 {
            return;
        }
        let ids = std::mem::take(subject).texts();
        let kept = self.also.get_mut(number as usize).map(std::mem::take);
        let also = kept.map(|kept| kept.also(texts));
        self.table.remove(hash(ids.map(|id| texts.text(id)), also), number);
        self.free.push(number);
        for id in ids.into_iter().chain(kept.into_iter().flat_map(|kept| kept.texts)) {
            texts.release(id);
        }
    }

    /// How often each is used, by number.
    pub(crate) fn uses(&self) -> impl Iterator<Item = u32> {
        self.all.iter().map(|subject| subject.uses)
    }

    /// Writes what is not in chunks.
    pub(crate) fn write_head(&self, out: &mut Writer) {
        out.len(self.all.len());
        out.ids(&self.free);
    }

    /// What [`Self::write_head`] wrote: how many numbers there are, and which are free.
    pub(crate) fn read_head(input: &mut Reader<'_>) -> Result<(usize, Vec<u32>), SnapshotError> {
        let count = input.uint()? as usize;
        Ok((count, input.ids_below(count)?))
    }

    /// The subjects, and the uses of texts and of them: of these there are none yet. `head` is what
    /// [`Self::read_head`] read.
    pub(crate) fn read_from(
        (count, free): (usize, Vec<u32>),
        image: &Image<'_>,
        is_wide: bool,
        texts: &Interner,
    ) -> Result<(Self, Used), SnapshotError> {
        let mut text_uses = Uses::none_of(texts.slots());
        let (mut all, mut also) = (Vec::new(), Vec::new());
        for chunk in image.chunks(Part::Subjects, 0..count.div_ceil(CHUNK) as u64) {
            let (_, mut input) = chunk?;
            for _ in 0..(count - all.len()).min(CHUNK) {
                let uses = input.id()?;
                let mut id = || input.used(&mut text_uses);
                let subject = Subject { item: id()?, campaign: id()?, category: id()?, uses };
                let mut kept = Kept::default();
                if is_wide {
                    kept.texts = [id()?, id()?, id()?, id()?];
                    kept.filters = input.id()?;
                    also.push(kept);
                }
                if uses == 0 && (subject, kept) != (Subject::default(), Kept::default()) {
                    return Err(input.damaged());
                }
                all.push(subject);
            }
            input.end()?;
        }
        let is_first_empty = all.first().is_some_and(|first| *first == Subject::default());
        let is_free = |number: u32| number != EMPTY && all[number as usize].uses == 0;
        if !is_first_empty || !are_all_free(&free, count, is_free) {
            return Err(SnapshotError::Missing { part: Part::Subjects as u8, number: 0 });
        }
        let mut table = Table::with_room(all.len());
        for (number, subject) in (0..).zip(&all).filter(|(_, subject)| subject.uses > 0) {
            let kept = also.get(number as usize).map(|kept: &Kept| kept.also(texts));
            table.insert(hash(subject.texts().map(|id| texts.text(id)), kept), number);
        }
        let campaigns = all.iter().map(|subject| subject.campaign).collect();
        let categories = all.iter().map(|subject| subject.category).collect();
        let used = Used { texts: text_uses, subjects: Uses::none_of(count) };
        Ok((Self { all, campaigns, categories, also, free, table, is_wide, marks: Marks::default() }, used))
    }
}

impl Chunks for Subjects {
    const PART: Part = Part::Subjects;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        0..self.all.len().div_ceil(CHUNK) as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        let numbers = number as u32 * CHUNK as u32..;
        for (number, subject) in numbers.zip(&self.all[number as usize * CHUNK..]).take(CHUNK) {
            out.uint(u64::from(subject.uses));
            subject.texts().iter().for_each(|id| out.uint(u64::from(*id)));
            if self.is_wide {
                let Kept { texts, filters } = self.kept(number);
                texts.iter().chain([&filters]).for_each(|id| out.uint(u64::from(*id)));
            }
        }
    }
}

fn hash(texts: [&str; 3], also: Option<Also<'_>>) -> u32 {
    // An empty text has a hash, too: each has its place.
    let [item, campaign, category] = texts;
    let filters = also.map_or(0, |also| u64::from(also.filters));
    let mut hash = mix(mix(mix(filters, item), campaign), category);
    if let Some(also) = also {
        hash = also.texts.into_iter().fold(hash, mix);
    }
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_texts_are_one_number_until_its_last_use_ends() {
        let (mut subjects, mut texts) = (Subjects::new(false), Interner::new());
        let names: Vec<[String; 3]> =
            (0..300).map(|n| [format!("i{n}"), format!("c{}", n % 7), String::new()]).collect();
        let of = |names: &[String; 3]| names.each_ref().map(String::as_str).map(str::to_owned);
        let mut intern = |subjects: &mut Subjects, names: &[String; 3]| {
            let names = of(names);
            subjects.intern(names.each_ref().map(String::as_str), None, &mut texts)
        };
        let numbers: Vec<u32> = names.iter().map(|names| intern(&mut subjects, names)).collect();
        assert_eq!(intern(&mut subjects, &names[5]), numbers[5]);
        let swapped = [names[5][1].clone(), names[5][0].clone(), String::new()];
        let other = intern(&mut subjects, &swapped);
        assert!(!numbers.contains(&other));
        assert_eq!(intern(&mut subjects, &Default::default()), EMPTY);
        for number in numbers.iter().chain([&numbers[5], &other]) {
            subjects.release(*number, &mut texts);
        }
        assert_eq!((texts.len(), subjects.table.len()), (0, 0));
        assert_eq!(subjects.intern(["new", "", ""], None, &mut texts), other, "last freed first");
    }
}
