//! Tests of `bolt.rs`: a small database made by hand, and what becomes of it.

use super::*;

const PAGE: usize = 4096;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn header(bytes: &mut [u8], page: u64, flags: u16, count: u16) {
    let at = usize::try_from(page).unwrap() * PAGE;
    put(bytes, at, &page.to_le_bytes());
    put(bytes, at + 8, &flags.to_le_bytes());
    put(bytes, at + 10, &count.to_le_bytes());
}

fn meta(bytes: &mut [u8], page: u64, version: u32, root: u64, free_list: u64, pages: u64, transaction: u64) {
    header(bytes, page, 0x04, 0);
    let at = usize::try_from(page).unwrap() * PAGE + HEADER;
    put(bytes, at, &MAGIC.to_le_bytes());
    put(bytes, at + 4, &version.to_le_bytes());
    put(bytes, at + 8, &4096_u32.to_le_bytes());
    for (place, value) in [(16, root), (32, free_list), (40, pages), (48, transaction)] {
        put(bytes, at + place, &value.to_le_bytes());
    }
    let sum = fnv_1a(&bytes[at..at + SUMMED]);
    put(bytes, at + SUMMED, &sum.to_le_bytes());
}

/// A leaf's elements, each with its flags, key and value.
fn leaf(elements: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
    let mut data = vec![0; HEADER + elements.len() * ELEMENT];
    put(&mut data, 8, &LEAF.to_le_bytes());
    put(&mut data, 10, &u16::try_from(elements.len()).unwrap().to_le_bytes());
    for (n, (flags, key, value)) in elements.iter().enumerate() {
        let place = HEADER + n * ELEMENT;
        let number = |size: usize| u32::try_from(size).unwrap();
        let numbers = [*flags, number(data.len() - place), number(key.len()), number(value.len())];
        for (n, number) in numbers.into_iter().enumerate() {
            put(&mut data, place + n * 4, &number.to_le_bytes());
        }
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    data
}

/// Page 2: free list with page 7. 3: the root, with a bucket on page 4 and an inline one. 4: a branch to 5 and 6.
fn database() -> Vec<u8> {
    let mut bytes = vec![0; 8 * PAGE];
    meta(&mut bytes, 0, VERSION, 3, 2, 8, 6);
    meta(&mut bytes, 1, VERSION, 3, 2, 8, 5);
    header(&mut bytes, 2, FREE_LIST, 1);
    put(&mut bytes, 2 * PAGE + HEADER, &7_u64.to_le_bytes());
    let large = [4_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let small = [vec![0; BUCKET_HEADER], leaf(&[(0, b"key", b"value")])].concat();
    put(
        &mut bytes,
        3 * PAGE,
        &leaf(&[(BUCKET, b"large", &large), (BUCKET, b"small", &small), (0, b"k", b"v")]),
    );
    header(&mut bytes, 3, LEAF, 3);
    header(&mut bytes, 4, BRANCH, 2);
    for (n, child) in [5_u64, 6].into_iter().enumerate() {
        let place = 4 * PAGE + HEADER + n * ELEMENT;
        put(&mut bytes, place, &32_u32.to_le_bytes());
        put(&mut bytes, place + 4, &1_u32.to_le_bytes());
        put(&mut bytes, place + 8, &child.to_le_bytes());
    }
    for page in [5, 6] {
        let at = usize::try_from(page).unwrap() * PAGE;
        put(&mut bytes, at, &leaf(&[(0, b"key", b"value")]));
        header(&mut bytes, page, LEAF, 1);
    }
    bytes
}

fn checked(bytes: &[u8]) -> Result<(), Damage> {
    check(bytes, bytes.len() as u64)
}

#[test]
fn a_sound_database_is_left_alone() {
    assert_eq!(checked(&database()), Ok(()));
}

#[test]
fn the_checksum_is_that_of_a_meta_page_that_bolt_wrote() {
    assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn one_meta_page_is_enough_and_none_is_not() {
    for page in [0, 1] {
        let mut bytes = database();
        bytes[page * PAGE..][..PAGE].fill(0xA5);
        assert_eq!(checked(&bytes), Ok(()), "without meta page {page}");
    }
    let mut bytes = database();
    bytes[..2 * PAGE].fill(0);
    assert_eq!(checked(&bytes), Err(Damage::NoMeta));
    assert_eq!(checked(b"garbage"), Err(Damage::NoMeta));
    assert_eq!(checked(b""), Err(Damage::NoMeta));
}

#[test]
fn a_flipped_bit_makes_a_meta_page_invalid() {
    for at in HEADER..HEADER + SUMMED + 8 {
        let mut bytes = database();
        bytes[PAGE..2 * PAGE].fill(0);
        bytes[at] ^= 4;
        assert_eq!(checked(&bytes), Err(Damage::NoMeta), "byte {at}");
    }
}

#[test]
fn a_format_of_another_version_is_not_judged() {
    let mut bytes = vec![0; 4 * PAGE];
    meta(&mut bytes, 0, 3, 99, 99, 1000, 1);
    assert_eq!(checked(&bytes), Ok(()));
}

#[test]
fn a_file_that_was_cut_off_is_found_at_every_page() {
    let bytes = database();
    for pages in 2..8 {
        let length = (pages * PAGE) as u64;
        let damage = Damage::Short { length, needed: bytes.len() as u64 };
        assert_eq!(checked(&bytes[..pages * PAGE]), Err(damage));
    }
    // Longer is right: bolt grows its file ahead.
    assert_eq!(checked(&[bytes, vec![0; 5 * PAGE]].concat()), Ok(()));
}

#[test]
fn a_page_that_was_overwritten_is_found() {
    for fill in [0, 0xA5, 0xFF] {
        for page in 2..7 {
            let mut bytes = database();
            bytes[page * PAGE..][..PAGE].fill(fill);
            assert!(checked(&bytes).is_err(), "page {page} with {fill:#x}");
        }
        let mut bytes = database();
        bytes[7 * PAGE..].fill(fill);
        assert_eq!(checked(&bytes), Ok(()), "nobody looks at a free page");
    }
}

#[test]
fn what_leads_astray_is_found() {
    let at = |page: usize, place: usize| page * PAGE + place;
    let cases: &[(&str, usize, &[u8])] = &[
        ("a child beyond the end", at(4, HEADER + 8), &8_u64.to_le_bytes()),
        ("a child that is its own parent", at(4, HEADER + 8), &4_u64.to_le_bytes()),
        ("a child twice", at(4, HEADER + 8), &6_u64.to_le_bytes()),
        ("a key beyond the page", at(4, HEADER + 4), &u32::MAX.to_le_bytes()),
        ("a branch without children", at(4, 10), &0_u16.to_le_bytes()),
        ("a value beyond the page", at(5, HEADER + 12), &5000_u32.to_le_bytes()),
        ("too many elements", at(5, 10), &300_u16.to_le_bytes()),
        ("too many pages", at(5, 12), &3_u32.to_le_bytes()),
        ("pages of somebody else", at(5, 12), &1_u32.to_le_bytes()),
        ("another number", at(6, 0), &5_u64.to_le_bytes()),
        ("a used page that is free", at(2, HEADER), &6_u64.to_le_bytes()),
        ("a free page beyond the end", at(2, HEADER), &8_u64.to_le_bytes()),
        ("a free list beyond its page", at(2, 10), &600_u16.to_le_bytes()),
        ("a leaf as free list", at(2, 8), &LEAF.to_le_bytes()),
    ];
    for (what, place, value) in cases {
        let mut bytes = database();
        put(&mut bytes, *place, value);
        assert!(matches!(checked(&bytes), Err(Damage::Page(..))), "{what}: {:?}", checked(&bytes));
    }
}

#[test]
fn what_was_not_read_is_not_judged() {
    let mut bytes = database();
    bytes[5 * PAGE..].fill(0);
    assert_eq!(check(&bytes[..5 * PAGE], bytes.len() as u64), Ok(()));
}
