//! What PID 1 keeps of the memory that only its start takes: as little as glibc lets it.
//!
//! In a container, where nobody sets [`TUNABLES`] before the start, glibc keeps its usual 128 KiB and more.

use std::ffi::CStr;
use std::hint::black_box;

/// For the environment of the node stage: the free end of the heap goes back to the kernel down to the last page, also
/// after a large config was read. The two are `M_TOP_PAD` and `M_TRIM_THRESHOLD` of mallopt(3).
pub(crate) const TUNABLES: &CStr = c"GLIBC_TUNABLES=glibc.malloc.top_pad=0:glibc.malloc.trim_threshold=4096";
/// glibc looks at the end of the heap when so much is freed in one piece (`FASTBIN_CONSOLIDATION_THRESHOLD`), bytes.
const LOOKS: usize = 64 << 10;

/// Gives the free end of the heap back to the kernel.
pub(crate) fn trim() {
    // Without the hint the compiler leaves out what nobody uses.
    drop(black_box(Vec::<u8>::with_capacity(LOOKS)));
}
