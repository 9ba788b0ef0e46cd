//! bbolt databases, the format of containerd's metadata: bytes in, what is broken out.
//!
//! What is checked is what bolt itself would trip over: the two meta pages (magic, version, page size, checksum), the
//! file's length against the number of pages, and each page that the tree or the free list leads to. Keys and values
//! have no checksum and are not judged. In doubt a database is sound: a false alarm would cost every image and pod.
//!
//! The format is that of version 2 in <https://github.com/etcd-io/bbolt> (`internal/common`): little endian on every
//! machine that Podium runs on.

use std::fmt;

/// What a meta begins with.
const MAGIC: u32 = 0xED0C_DAED;
/// The one version there has been.
const VERSION: u32 = 2;
/// Page header: id u64, flags u16, count u16, overflow u32.
const HEADER: usize = 16;
/// Element of a branch (pos u32, ksize u32, page u64) and of a leaf (flags u32, pos u32, ksize u32, vsize u32). `pos`
/// counts from the element itself.
const ELEMENT: usize = 16;
/// Bytes of a meta before its checksum.
const SUMMED: usize = 56;
/// Page sizes that some machine has.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 10..=16;
/// The first page that is not a meta page.
const FIRST: u64 = 2;
/// What a database without a stored free list has for its page.
const NO_FREE_LIST: u64 = u64::MAX;
/// A free list of more pages than fit into `count` has this there, and the count in its first entry.
const MANY: u16 = 0xFFFF;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const FREE_LIST: u16 = 0x10;
/// A leaf element's flag: its value is a bucket (root page u64, sequence u64), with the bucket's own leaf behind it if the
/// root is 0.
const BUCKET: u32 = 0x01;
const BUCKET_HEADER: usize = 16;

/// What is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// Not even the name of the format is there.
    NoMeta,
    /// It ends before its last page; both in bytes.
    Short {
        /// What the file has.
        length: u64,
        /// What its pages need.
        needed: u64,
    },
    /// One page, and what is wrong with it.
    Page(u64, &'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMeta => write!(out, "neither of its two meta pages is valid"),
            Self::Short { length, needed } => {
                write!(out, "it is {length} bytes long, and its pages need {needed}")
            }
            Self::Page(page, what) => write!(out, "page {page}: {what}"),
        }
    }
}

/// Looks for damage in a database of `length` bytes, of which `bytes` are the first: pages behind those are not looked
/// at.
///
/// # Errors
/// The first damage that is found.
pub fn check(bytes: &[u8], length: u64) -> Result<(), Damage> {
    let meta = newest_meta(bytes).ok_or(Damage::NoMeta)?;
    // Of a format that is not known nothing can be said.
    if meta.version != VERSION {
        return Ok(());
    }
    let needed = meta.pages.saturating_mul(meta.page_size as u64);
    if needed > length {
        return Err(Damage::Short { length, needed });
    }
    let mut walk =
        Walk { bytes, meta, seen: vec![false; bytes.len() / meta.page_size], to_visit: Vec::new() };
    walk.reach(0, meta.root)?;
    while let Some(page) = walk.to_visit.pop() {
        walk.visit(page)?;
    }
    walk.free_list()
}

/// What a meta page says.
#[derive(Debug, Clone, Copy)]
struct Meta {
    version: u32,
    page_size: usize,
    root: u64,
    free_list: u64,
    /// The number of pages, free ones included.
    pages: u64,
    transaction: u64,
}

/// The meta page that bolt uses: of those that are whole, the one of the later transaction.
fn newest_meta(bytes: &[u8]) -> Option<Meta> {
    // The second one's place depends on the page size, which the first one may have lost.
    let second = PAGE_SIZES.map(|power| 1_usize << power).filter_map(|place| {
        let meta = meta_at(bytes, place)?;
        (meta.page_size == place).then_some(meta)
    });
    meta_at(bytes, 0).into_iter().chain(second).max_by_key(|meta| meta.transaction)
}

fn meta_at(bytes: &[u8], page: usize) -> Option<Meta> {
    let meta = bytes.get(page.checked_add(HEADER)?..)?;
    let page_size = u32_at(meta, 8)?;
    let is_whole = u32_at(meta, 0)? == MAGIC
        && PAGE_SIZES.contains(&page_size.checked_ilog2()?)
        && page_size.is_power_of_two()
        && u64_at(meta, SUMMED)? == fnv_1a(meta.get(..SUMMED)?);
    is_whole.then_some(Meta {
        version: u32_at(meta, 4)?,
        page_size: usize::try_from(page_size).ok()?,
        root: u64_at(meta, 16)?,
        free_list: u64_at(meta, 32)?,
        pages: u64_at(meta, 40)?,
        transaction: u64_at(meta, 48)?,
    })
}

/// FNV-1a of 64 bits.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The way through all pages that are in use. Each is entered once, so it ends.
struct Walk<'a> {
    bytes: &'a [u8],
    meta: Meta,
    /// Of the pages in `bytes`.
    seen: Vec<bool>,
    to_visit: Vec<u64>,
}

impl<'a> Walk<'a> {
    /// Notes a page that another one leads to.
    fn reach(&mut self, from: u64, page: u64) -> Result<(), Damage> {
        if !(FIRST..self.meta.pages).contains(&page) {
            return Err(Damage::Page(from, "leads to a page that is not there"));
        }
        match usize::try_from(page).ok().and_then(|page| self.seen.get_mut(page)) {
            Some(true) => return Err(Damage::Page(page, "is used twice")),
            Some(seen) => {
                *seen = true;
                self.to_visit.push(page);
            }
            // Not among the bytes that were read.
            None => {}
        }
        Ok(())
    }

    /// Looks at a page of the tree.
    fn visit(&mut self, page: u64) -> Result<(), Damage> {
        let Some(text) = self.whole(page)? else { return Ok(()) };
        match u16_at(text, 8) {
            Some(BRANCH) => self.branch(page, text),
            Some(LEAF) => self.leaf(page, text),
            _ => Err(Damage::Page(page, "is neither branch nor leaf")),
        }
    }

    /// A page with those that belong to it, if all of them were read.
    fn whole(&mut self, page: u64) -> Result<Option<&'a [u8]>, Damage> {
        let bytes: &'a [u8] = self.bytes;
        let size = self.meta.page_size;
        let Some(start) = usize::try_from(page).ok().and_then(|page| page.checked_mul(size)) else {
            return Ok(None);
        };
        let Some(header) = bytes.get(start..).filter(|rest| rest.len() >= size) else { return Ok(None) };
        if u64_at(header, 0) != Some(page) {
            return Err(Damage::Page(page, "has another page's number"));
        }
        let more = u64::from(u32_at(header, 12).unwrap_or_default());
        if page + more >= self.meta.pages {
            return Err(Damage::Page(page, "is longer than the database"));
        }
        for other in page + 1..=page + more {
            match usize::try_from(other).ok().and_then(|other| self.seen.get_mut(other)) {
                Some(true) => return Err(Damage::Page(other, "is used twice")),
                Some(seen) => *seen = true,
                None => return Ok(None),
            }
        }
        Ok(usize::try_from(more).ok().and_then(|more| header.get(..(more + 1) * size)))
    }

    fn branch(&mut self, page: u64, text: &[u8]) -> Result<(), Damage> {
        let count = usize::from(u16_at(text, 10).unwrap_or_default());
        if count == 0 {
            return Err(Damage::Page(page, "is a branch that leads nowhere"));
        }
        for place in (0..count).map(|n| HEADER + n * ELEMENT) {
            let child = element(text, place, 0, &[4]).and_then(|_| u64_at(text, place + 8));
            self.reach(page, child.ok_or(Damage::Page(page, "has a key beyond its end"))?)?;
        }
        Ok(())
    }

    /// A leaf page, or the leaf that is the value of a small bucket.
    fn leaf(&mut self, page: u64, text: &[u8]) -> Result<(), Damage> {
        let beyond = || Damage::Page(page, "has a key or value beyond its end");
        let count = usize::from(u16_at(text, 10).ok_or_else(beyond)?);
        for place in (0..count).map(|n| HEADER + n * ELEMENT) {
            let flags = u32_at(text, place).ok_or_else(beyond)?;
            let data = element(text, place, 4, &[8, 12]).ok_or_else(beyond)?;
            if flags & BUCKET == 0 {
                continue;
            }
            let key = u32_at(text, place + 8).and_then(|size| usize::try_from(size).ok());
            let bucket = key.and_then(|size| data.get(size..)).ok_or_else(beyond)?;
            match u64_at(bucket, 0) {
                Some(0) => {
                    let inline = bucket.get(BUCKET_HEADER..).filter(|inline| u16_at(inline, 8) == Some(LEAF));
                    let inline = inline.ok_or(Damage::Page(page, "has a bucket that is no leaf"))?;
                    self.values(page, inline)?;
                }
                Some(root) if bucket.len() >= BUCKET_HEADER => self.reach(page, root)?,
                _ => return Err(Damage::Page(page, "has a bucket that is cut off")),
            }
        }
        Ok(())
    }

    /// An inline bucket has no buckets in it.
    fn values(&self, page: u64, text: &[u8]) -> Result<(), Damage> {
        let count = usize::from(u16_at(text, 10).unwrap_or_default());
        let is_sound = |n: usize| element(text, HEADER + n * ELEMENT, 4, &[8, 12]).is_some();
        match (0..count).all(is_sound) {
            true => Ok(()),
            false => Err(Damage::Page(page, "has a bucket with a key or value beyond its end")),
        }
    }

    /// Looks at the list of free pages: none may be in use.
    fn free_list(&mut self) -> Result<(), Damage> {
        let page = self.meta.free_list;
        if page == NO_FREE_LIST {
            return Ok(());
        }
        self.reach(0, page)?;
        let pages = self.meta.pages;
        let Some(text) = self.whole(page)? else { return Ok(()) };
        if u16_at(text, 8) != Some(FREE_LIST) {
            return Err(Damage::Page(page, "is no list of free pages"));
        }
        let beyond = || Damage::Page(page, "is longer than its page");
        let (count, skip) = match u16_at(text, 10).unwrap_or_default() {
            MANY => (u64_at(text, HEADER).ok_or_else(beyond)?, 1),
            count => (u64::from(count), 0),
        };
        let list = text.get(HEADER + skip * 8..).ok_or_else(beyond)?.chunks_exact(8);
        let count = usize::try_from(count).ok().filter(|count| *count <= list.len()).ok_or_else(beyond)?;
        for free in list.take(count).filter_map(|entry| u64_at(entry, 0)) {
            if !(FIRST..pages).contains(&free) {
                return Err(Damage::Page(page, "lists a page that is not there as free"));
            }
            let seen = usize::try_from(free).ok().and_then(|free| self.seen.get(free));
            if seen.copied().unwrap_or_default() {
                return Err(Damage::Page(free, "is in use and free"));
            }
        }
        Ok(())
    }
}

/// The data of the element at `place`: its position stands at `pos` in it, the sizes of what is there at `sizes`.
fn element<'a>(text: &'a [u8], place: usize, pos: usize, sizes: &[usize]) -> Option<&'a [u8]> {
    let number = |at: usize| u32_at(text, place + at).and_then(|number| usize::try_from(number).ok());
    let start = place.checked_add(number(pos)?)?;
    let size = sizes.iter().try_fold(0_usize, |sum, at| sum.checked_add(number(*at)?))?;
    text.get(start..start.checked_add(size)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "bolt_tests.rs"]
mod tests;
