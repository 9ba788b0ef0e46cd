fn main() -> anyhow::Result<()> {
    let checkout = podium_image::build::Checkout::at(&std::env::current_dir()?);
    let lock = podium_image::build::fetch(&checkout, Default::default())?;
    eprintln!("{}", lock.packages.len());
    Ok(())
}
