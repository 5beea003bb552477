//! The migrations are embedded, so a changed folder must rebuild the crate.
fn main() {
    println!("cargo:rerun-if-changed=../../prisma-free-migrations");
}
