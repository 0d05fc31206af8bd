//! One hash shard of a run's keys: open addressing with linear probing, a key (or where its bytes are) and its first
//! position side by side, so that meeting a known number touches one cache line, and a known string two or three. Must
//! never forget a key, nor take two for one.

use super::sorted::{BytesItem, FixedItem};
use super::table::Tracks;
use super::{KeyRef, hash_bytes, hash_fixed};
use crate::artifacts::{Decoder, Encoder};
use crate::near::ask_for;

/// Bytes of keys in one shard's memory, each with its length before it: places are 32-bit numbers.
const MOST_KEY_BYTES: usize = u32::MAX as usize;

/// Keys whose places are asked for together, while those before them are looked at.
const TOGETHER: usize = 32;

const EMPTY: u32 = u32::MAX;

/// Bytes of a key's length, which stands before it.
const LENGTH: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The key itself if it fits into 64 bits, else the low half of its hash, and above that where it is in `data`.
    tag: u64,
    /// The key's number, or `EMPTY`.
    number: u32,
    first: u32,
}

const EMPTY_SLOT: Slot = Slot { tag: 0, number: EMPTY, first: 0 };

impl Slot {
    fn place(self) -> usize {
        (self.tag >> 32) as usize
    }
}

/// Keys of one shard.
#[derive(Debug)]
pub(crate) struct KeyShard {
    slots: Vec<Slot>,
    count: u32,
    fixed: bool,
    tracks: Tracks,
    /// Of keys that are byte strings: all of them by number, each with its length before it.
    data: Vec<u8>,
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
    /// No keys yet, of the kind that `fixed` says.
    pub(crate) fn new(fixed: bool, tracks: Tracks) -> Self {
        Self {
            slots: Vec::new(),
            count: 0,
            fixed,
            tracks,
            data: Vec::new(),
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
        let slots = self.slots.capacity() * size_of::<Slot>();
        (slots + self.data.capacity() + self.last.capacity() * 4 + self.attributes.capacity() * 9) as u64
    }

    /// Merges keys from the front of `items`, and calls `done` with the index and the number of each. Gives how many
    /// it could take: with fewer than all, the shard is full.
    pub(super) fn merge_fixed(
        &mut self,
        items: &[FixedItem],
        attributes: &[u64],
        mut done: impl FnMut(u32, u32),
    ) -> usize {
        let mut ahead = [0; TOGETHER];
        let ask = |shard: &Self, items: &[FixedItem], hashes: &mut [u32; TOGETHER]| {
            let mask = shard.slots.len() - 1;
            for (hash, item) in hashes.iter_mut().zip(items) {
                *hash = hash_fixed(item.key) as u32;
                ask_for(&shard.slots, *hash as usize & mask);
            }
        };
        self.reserve(items.len().min(TOGETHER));
        ask(self, &items[..items.len().min(TOGETHER)], &mut ahead);
        for (number, batch) in items.chunks(TOGETHER).enumerate() {
            let hashes = ahead;
            self.reserve(TOGETHER);
            let next = &items[((number + 1) * TOGETHER).min(items.len())..];
            ask(self, &next[..next.len().min(TOGETHER)], &mut ahead);
            let mask = self.slots.len() - 1;
            for (item, hash) in batch.iter().zip(hashes) {
                let mut at = hash as usize & mask;
                let mut slot = self.slots[at];
                while slot.number != EMPTY && slot.tag != item.key {
                    at = (at + 1) & mask;
                    slot = self.slots[at];
                }
                let attributes = attributes.get(item.index as usize).copied().unwrap_or_default();
                done(item.index, self.meet(at, item.key, item.position, attributes));
            }
        }
        items.len()
    }

    /// The same for keys that are byte strings; `data` has their bytes.
    pub(super) fn merge_bytes(
        &mut self,
        items: &[BytesItem],
        data: &[u8],
        attributes: &[u64],
        done: impl FnMut(u32, u32),
    ) -> usize {
        self.merge_strings::<0>(items, data, attributes, done)
    }

    /// The same with so many bytes, of no meaning here, before each key in `data`.
    fn merge_strings<const BEFORE: usize>(
        &mut self,
        items: &[BytesItem],
        mut data: &[u8],
        attributes: &[u64],
        mut done: impl FnMut(u32, u32),
    ) -> usize {
        let batch = |number: usize| {
            let rest = &items[(number * TOGETHER).min(items.len())..];
            &rest[..rest.len().min(TOGETHER)]
        };
        self.reserve(items.len().min(TOGETHER));
        self.ask_for_slots(batch(0));
        self.ask_for_slots(batch(1));
        self.ask_for_bytes(batch(0));
        for number in 0..items.len().div_ceil(TOGETHER) {
            self.reserve(TOGETHER);
            self.ask_for_slots(batch(number + 2));
            self.ask_for_bytes(batch(number + 1));
            for (offset, item) in batch(number).iter().enumerate() {
                let (key, rest) = data[BEFORE..].split_at(item.length as usize);
                if self.is_full(key) {
                    return number * TOGETHER + offset;
                }
                data = rest;
                let at = self.probe_bytes(key, item.hash);
                let place = (self.data.len() as u64) << 32;
                if self.slots[at].number == EMPTY {
                    self.keep(key);
                }
                let attributes = attributes.get(item.index as usize).copied().unwrap_or_default();
                done(item.index, self.meet(at, place | u64::from(item.hash), item.position, attributes));
            }
        }
        items.len()
    }

    fn ask_for_slots(&self, items: &[BytesItem]) {
        let mask = self.slots.len() - 1;
        for item in items {
            ask_for(&self.slots, item.hash as usize & mask);
        }
    }

    /// Asks for what keys will be compared with; for keys that are new, it asks for the first one's bytes.
    fn ask_for_bytes(&self, items: &[BytesItem]) {
        let mask = self.slots.len() - 1;
        for item in items {
            let place = self.slots[item.hash as usize & mask].place();
            ask_for(&self.data, place);
            ask_for(&self.data, place + item.length as usize);
        }
    }

    /// Whether a further key may not find room.
    fn is_full(&self, key: &[u8]) -> bool {
        !self.data.is_empty() && self.data.len() + LENGTH + key.len() > MOST_KEY_BYTES
    }

    fn keep(&mut self, key: &[u8]) {
        self.data.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.data.extend_from_slice(key);
    }

    fn bytes_at(&self, place: usize) -> &[u8] {
        let rest = &self.data[place..];
        let length = rest.first_chunk::<LENGTH>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        &rest[LENGTH..LENGTH + length]
    }

    /// Where a byte string is, or where it belongs.
    fn probe_bytes(&self, key: &[u8], hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.number == EMPTY || (slot.tag as u32 == hash && self.bytes_at(slot.place()) == key) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn probe_fixed(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash_fixed(key) as usize & mask;
        while self.slots[at].number != EMPTY && self.slots[at].tag != key {
            at = (at + 1) & mask;
        }
        at
    }

    /// What is known of a key.
    pub(crate) fn find(&self, key: KeyRef<'_>, hash: u64) -> Option<Entry<'_>> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[match key {
            KeyRef::Fixed(key) => self.probe_fixed(key),
            KeyRef::Bytes(bytes) => self.probe_bytes(bytes, hash as u32),
        }];
        (slot.number != EMPTY).then(|| self.entry(slot))
    }

    /// The number of the key whose slot is `at`; remembers that it appeared at `position` with these attributes.
    #[inline]
    fn meet(&mut self, at: usize, tag: u64, position: u32, attributes: u64) -> u32 {
        let Slot { number, first, .. } = self.slots[at];
        if number != EMPTY {
            self.slots[at].first = first.min(position);
            if self.tracks != Tracks::FIRST {
                self.again(number, first, position, attributes);
            }
            return number;
        }
        let number = self.count;
        self.count += 1;
        self.slots[at] = Slot { tag, number, first: position };
        if self.tracks.last {
            self.last.push(position);
        }
        if self.tracks.attributes {
            self.attributes.push(attributes);
            self.conflicts.push(false);
        }
        number
    }

    fn again(&mut self, number: u32, first: u32, position: u32, attributes: u64) {
        let number = number as usize;
        let counts = if self.tracks.last { position > self.last[number] } else { position < first };
        if self.tracks.attributes {
            self.conflicts[number] |= self.attributes[number] != attributes;
            if counts {
                self.attributes[number] = attributes;
            }
        }
        if self.tracks.last && counts {
            self.last[number] = position;
        }
    }

    /// Makes room for so many further keys, if they are really to come: what is not used is lost room.
    pub(crate) fn expect(&mut self, more: usize) {
        if more > 0 {
            self.reserve(more);
        }
    }

    /// Makes room for further keys; three quarters of the slots are used at most.
    fn reserve(&mut self, more: usize) {
        let needed = (self.count as usize + more) * 4 / 3 + 1;
        if needed <= self.slots.len() {
            return;
        }
        let size = needed.next_power_of_two().max(64);
        let old = std::mem::replace(&mut self.slots, vec![EMPTY_SLOT; size]);
        for slot in old.into_iter().filter(|slot| slot.number != EMPTY) {
            let hash = if self.fixed { hash_fixed(slot.tag) as u32 } else { slot.tag as u32 };
            self.put(hash, slot);
        }
    }

    fn put(&mut self, hash: u32, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].number != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn entry(&self, slot: Slot) -> Entry<'_> {
        let key = if self.fixed { KeyRef::Fixed(slot.tag) } else { KeyRef::Bytes(self.bytes_at(slot.place())) };
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

    /// The hash of a key's attributes as its record that counts has them, and whether records differ in them.
    pub(crate) fn attributes(&self, number: u32) -> Option<(u64, bool)> {
        self.attributes.get(number as usize).map(|&attributes| (attributes, self.conflicts[number as usize]))
    }

    /// Adds the keys that [`Self::encode`] wrote elsewhere, in the order of their numbers there, and appends the number
    /// here of each. Of these keys no table is made: they go in as keys of records do.
    pub(crate) fn absorb(&mut self, from: &mut Decoder<'_>, numbers: &mut Vec<u32>) -> Result<(), Refused> {
        let part = Part::decode(from, self.fixed, self.tracks).ok_or(Refused::Damaged)?;
        let (count, before) = (part.firsts.len(), numbers.len());
        numbers.resize(before + count, EMPTY);
        let here = &mut numbers[before..];
        let done = |index: u32, number: u32| here[index as usize] = number;
        let taken = if self.fixed {
            self.merge_fixed(&part.fixed_items(), &part.attributes, done)
        } else {
            let items = part.byte_items().ok_or(Refused::Damaged)?;
            self.merge_strings::<LENGTH>(&items, part.data, &part.attributes, done)
        };
        if taken < count {
            return Err(Refused::Full);
        }
        for (&number, _) in here.iter().zip(part.conflicts).filter(|(_, conflict)| **conflict != 0) {
            self.conflicts[number as usize] = true;
        }
        for (index, (&number, &position)) in here.iter().zip(&part.last).enumerate() {
            let last = &mut self.last[number as usize];
            if position >= *last {
                *last = position;
                if let Some(&attributes) = part.attributes.get(index) {
                    self.attributes[number as usize] = attributes;
                }
            }
        }
        Ok(())
    }

    fn by_number(&self) -> Vec<Slot> {
        let mut all = vec![EMPTY_SLOT; self.count as usize];
        for slot in self.slots.iter().filter(|slot| slot.number != EMPTY) {
            all[slot.number as usize] = *slot;
        }
        all
    }

    /// Appends its form on disk.
    pub(super) fn encode(&self, out: &mut Encoder) {
        let all = self.by_number();
        let keys = if self.fixed { all.iter().map(|slot| slot.tag).collect() } else { Vec::new() };
        out.u64s(&keys);
        out.u32s(&all.iter().map(|slot| slot.first).collect::<Vec<_>>());
        out.bytes(&self.data);
        out.u32s(&self.last);
        out.u64s(&self.attributes);
        out.bytes(&self.conflicts.iter().map(|&c| u8::from(c)).collect::<Vec<_>>());
    }
}

/// Why keys were not absorbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The bytes are not of their form.
    Damaged,
    /// There is no room.
    Full,
}

/// What [`KeyShard::encode`] wrote: everything by number.
struct Part<'a> {
    /// Keys that fit into 64 bits; none if keys are byte strings.
    keys: &'a [[u8; 8]],
    firsts: &'a [[u8; 4]],
    /// Byte strings, each with its length before it.
    data: &'a [u8],
    last: Vec<u32>,
    attributes: Vec<u64>,
    conflicts: &'a [u8],
}

impl<'a> Part<'a> {
    fn decode(from: &mut Decoder<'a>, fixed: bool, tracks: Tracks) -> Option<Self> {
        let (keys, firsts, data) = (from.u64_bytes()?, from.u32_bytes()?, from.slice()?);
        let (last, attributes, conflicts) = (from.u32s()?, from.u64s()?, from.slice()?);
        let tracked = |tracks: bool, length: usize| length == if tracks { firsts.len() } else { 0 };
        let whole = keys.len() == if fixed { firsts.len() } else { 0 }
            && tracked(tracks.last, last.len())
            && tracked(tracks.attributes, attributes.len())
            && conflicts.len() == attributes.len();
        whole.then_some(Self { keys, firsts, data, last, attributes, conflicts })
    }

    /// The numbers as keys to be merged.
    fn fixed_items(&self) -> Vec<FixedItem> {
        let places = (0..).zip(self.firsts);
        let item = |(key, (index, position)): (&[u8; 8], (u32, &[u8; 4]))| FixedItem {
            key: u64::from_le_bytes(*key),
            position: u32::from_le_bytes(*position),
            index,
        };
        self.keys.iter().zip(places).map(item).collect()
    }

    /// The byte strings as keys to be merged.
    fn byte_items(&self) -> Option<Vec<BytesItem>> {
        let mut items = Vec::with_capacity(self.firsts.len());
        let mut rest = self.data;
        for (index, position) in (0..).zip(self.firsts) {
            let (length, after) = rest.split_first_chunk::<LENGTH>()?;
            let length = u32::from_le_bytes(*length);
            let (key, after) = after.split_at_checked(length as usize)?;
            rest = after;
            let position = u32::from_le_bytes(*position);
            items.push(BytesItem { hash: hash_bytes(key) as u32, position, index, length });
        }
        rest.is_empty().then_some(items)
    }
}
