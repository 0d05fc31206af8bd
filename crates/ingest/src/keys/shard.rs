//! One hash shard of a run's keys: open addressing with linear probing, a key and its first position side by side, so
//! that meeting a known key touches one cache line. Must never forget a key, nor take two for one.

use super::table::Tracks;
use super::{KeyRef, hash_fixed};
use crate::artifacts::{Decoder, Encoder};

/// Bytes of keys in one shard's memory: their ends are 32-bit numbers.
pub(super) const MOST_KEY_BYTES: usize = u32::MAX as usize;

/// Keys that are looked for at once.
pub(super) const TOUCHED: usize = 32;

const EMPTY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The key itself if it fits into 64 bits, else its hash.
    tag: u64,
    /// The key's number, or `EMPTY`.
    number: u32,
    first: u32,
}

/// Keys of one shard.
#[derive(Debug)]
pub(crate) struct KeyShard {
    slots: Vec<Slot>,
    count: u32,
    fixed: bool,
    tracks: Tracks,
    /// Of keys that are byte strings: the bytes of all, and where each ends.
    data: Vec<u8>,
    ends: Vec<u32>,
    last: Vec<u32>,
    attributes: Vec<u64>,
    conflicts: Vec<bool>,
}

/// A key and what is remembered of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) number: u32,
    /// Where it appeared first.
    pub(crate) first: u32,
}

impl KeyShard {
    pub(super) fn new(fixed: bool, tracks: Tracks) -> Self {
        Self {
            slots: Vec::new(),
            count: 0,
            fixed,
            tracks,
            data: Vec::new(),
            ends: Vec::new(),
            last: Vec::new(),
            attributes: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    /// How many keys.
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// The bytes that they take in memory.
    pub(super) fn bytes(&self) -> u64 {
        let words = self.ends.capacity() + self.last.capacity();
        let flags = self.conflicts.capacity();
        (self.slots.capacity() * 16 + self.data.capacity() + words * 4 + self.attributes.capacity() * 8 + flags) as u64
    }

    /// Whether a further key may not find room.
    pub(super) fn is_full(&self, key: KeyRef<'_>) -> bool {
        match key {
            KeyRef::Fixed(_) => false,
            KeyRef::Bytes(bytes) => !self.data.is_empty() && self.data.len() + bytes.len() > MOST_KEY_BYTES,
        }
    }

    /// Reads where keys with these hashes will be looked for, and what they will be compared with. None of these reads
    /// waits for another one, so that memory answers for all of them at once.
    pub(super) fn touch(&self, hashes: impl Iterator<Item = u64>) {
        let Some(mask) = self.slots.len().checked_sub(1) else { return };
        let mut numbers = [0_u32; TOUCHED];
        let mut count = 0;
        for (number, hash) in numbers.iter_mut().zip(hashes) {
            let slot = &self.slots[hash as usize & mask];
            // The first key stands in for an empty slot: it costs a read that is in the cache.
            *number = if slot.number == EMPTY { 0 } else { slot.number };
            count += 1;
        }
        if self.fixed || self.ends.is_empty() {
            std::hint::black_box(&numbers);
            return;
        }
        let mut places = [0_u32; TOUCHED];
        for (place, &number) in places.iter_mut().zip(&numbers[..count]) {
            *place = self.ends[number as usize];
        }
        let touched = places[..count].iter().map(|&end| self.data.get((end as usize).saturating_sub(1)).unwrap_or(&0));
        std::hint::black_box(touched.fold(0, |sum: u8, byte| sum ^ byte));
    }

    fn bytes_of(&self, number: u32) -> &[u8] {
        let from = if number == 0 { 0 } else { self.ends[number as usize - 1] };
        &self.data[from as usize..self.ends[number as usize] as usize]
    }

    /// Where the key is, or where it belongs.
    fn probe(&self, key: KeyRef<'_>, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            let found = slot.number == EMPTY
                || match key {
                    KeyRef::Fixed(key) => slot.tag == key,
                    KeyRef::Bytes(bytes) => slot.tag == hash && self.bytes_of(slot.number) == bytes,
                };
            if found {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// The number of a key.
    pub(crate) fn find(&self, key: KeyRef<'_>, hash: u64) -> Option<Entry<'_>> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[self.probe(key, hash)];
        (slot.number != EMPTY).then(|| self.entry(slot))
    }

    /// The key's number; remembers that it appeared at `position` with these attributes.
    pub(super) fn intern(&mut self, key: KeyRef<'_>, hash: u64, position: u32, attributes: u64) -> u32 {
        if (self.count as usize + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let at = self.probe(key, hash);
        let Slot { number, first, .. } = self.slots[at];
        if number != EMPTY {
            self.slots[at].first = first.min(position);
            self.again(number, first, position, attributes);
            return number;
        }
        let number = self.count;
        self.count += 1;
        let tag = match key {
            KeyRef::Fixed(key) => key,
            KeyRef::Bytes(bytes) => {
                self.data.extend_from_slice(bytes);
                self.ends.push(self.data.len() as u32);
                hash
            }
        };
        self.slots[at] = Slot { tag, number, first: position };
        match self.tracks {
            Tracks::First => {}
            Tracks::Last => self.last.push(position),
            Tracks::Attributes => {
                self.attributes.push(attributes);
                self.conflicts.push(false);
            }
        }
        number
    }

    fn again(&mut self, number: u32, first: u32, position: u32, attributes: u64) {
        let number = number as usize;
        match self.tracks {
            Tracks::First => {}
            Tracks::Last => self.last[number] = self.last[number].max(position),
            Tracks::Attributes => {
                self.conflicts[number] |= self.attributes[number] != attributes;
                if position < first {
                    self.attributes[number] = attributes;
                }
            }
        }
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![Slot { tag: 0, number: EMPTY, first: 0 }; size]);
        let mask = size - 1;
        for slot in old.into_iter().filter(|slot| slot.number != EMPTY) {
            let hash = if self.fixed { hash_fixed(slot.tag) } else { slot.tag };
            let mut at = hash as usize & mask;
            while self.slots[at].number != EMPTY {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    fn entry(&self, slot: Slot) -> Entry<'_> {
        let key = if self.fixed { KeyRef::Fixed(slot.tag) } else { KeyRef::Bytes(self.bytes_of(slot.number)) };
        Entry { key, number: slot.number, first: slot.first }
    }

    /// All keys, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slots.iter().filter(|slot| slot.number != EMPTY).map(|&slot| self.entry(slot))
    }

    /// The last position of a key.
    pub(crate) fn last(&self, number: u32) -> u32 {
        self.last[number as usize]
    }

    /// The hash of a key's attributes, and whether records differ in them.
    pub(crate) fn attributes(&self, number: u32) -> Option<(u64, bool)> {
        self.attributes.get(number as usize).map(|&attributes| (attributes, self.conflicts[number as usize]))
    }

    /// Adds the keys of `part` in the order of their numbers, and appends the number here of each; `false` if there is
    /// no room.
    pub(super) fn absorb(&mut self, part: &Self, numbers: &mut Vec<u32>) -> bool {
        for slot in part.by_number() {
            let Entry { key, number, first } = part.entry(slot);
            if self.is_full(key) {
                return false;
            }
            let attributes = part.attributes(number);
            let here = self.intern(key, key.hash(), first, attributes.map_or(0, |(hash, _)| hash));
            if let Some((_, true)) = attributes {
                self.conflicts[here as usize] = true;
            }
            if part.tracks == Tracks::Last {
                let last = &mut self.last[here as usize];
                *last = (*last).max(part.last(number));
            }
            numbers.push(here);
        }
        true
    }

    fn by_number(&self) -> Vec<Slot> {
        let mut all = vec![Slot { tag: 0, number: EMPTY, first: 0 }; self.count as usize];
        for slot in self.slots.iter().filter(|slot| slot.number != EMPTY) {
            all[slot.number as usize] = *slot;
        }
        all
    }

    /// Appends its form on disk.
    pub(super) fn encode(&self, out: &mut Encoder) {
        let all = self.by_number();
        out.u64s(&all.iter().map(|slot| slot.tag).collect::<Vec<_>>());
        out.u32s(&all.iter().map(|slot| slot.first).collect::<Vec<_>>());
        out.bytes(&self.data);
        out.u32s(&self.ends);
        out.u32s(&self.last);
        out.u64s(&self.attributes);
        out.bytes(&self.conflicts.iter().map(|&c| u8::from(c)).collect::<Vec<_>>());
    }

    /// Reads it back; `None` if the bytes are not of that form.
    pub(super) fn decode(from: &mut Decoder<'_>, fixed: bool, tracks: Tracks) -> Option<Self> {
        let (tags, firsts) = (from.u64s()?, from.u32s()?);
        let (data, ends) = (from.bytes()?, from.u32s()?);
        let (last, attributes, conflicts) = (from.u32s()?, from.u64s()?, from.bytes()?);
        let count = u32::try_from(tags.len()).ok()?;
        let tracked = |kind: Tracks, length: usize| length == if tracks == kind { tags.len() } else { 0 };
        let whole = firsts.len() == tags.len()
            && (fixed || (ends.len() == tags.len() && ends.is_sorted()))
            && ends.last().is_none_or(|&end| end as usize <= data.len())
            && tracked(Tracks::Last, last.len())
            && tracked(Tracks::Attributes, attributes.len())
            && conflicts.len() == attributes.len();
        if !whole {
            return None;
        }
        let mut shard = Self::new(fixed, tracks);
        let size = (tags.len() * 4 / 3 + 1).next_power_of_two().max(16);
        shard.slots = vec![Slot { tag: 0, number: EMPTY, first: 0 }; size];
        for (number, (tag, first)) in (0..).zip(tags.into_iter().zip(firsts)) {
            let hash = if fixed { hash_fixed(tag) } else { tag };
            let mut at = hash as usize & (size - 1);
            while shard.slots[at].number != EMPTY {
                at = (at + 1) & (size - 1);
            }
            shard.slots[at] = Slot { tag, number, first };
        }
        Some(Self {
            count,
            data,
            ends,
            last,
            attributes,
            conflicts: conflicts.into_iter().map(|c| c != 0).collect(),
            ..shard
        })
    }
}
