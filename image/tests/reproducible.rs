//! The image of this checkout, packed twice. Run by `cargo xtask test image`: it takes the network or a filled cache.

use anyhow::Result;
use podium_image::build::{self, Checkout};
use podium_image::packages::Policy;
use podium_image::reproducible;
use std::path::Path;

#[test]
fn the_same_components_give_the_same_bytes() -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let checkout = Checkout::at(&top);
    let image = build::image(&checkout, Policy::default(), None)?;
    reproducible::check_packing(&checkout, Policy::default(), &image)
}
