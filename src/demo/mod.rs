//! The stage on which the real program is shown and tested.

mod cast;
mod disk;
mod http;
pub mod mailbox;
pub mod provider;
pub mod publisher;
mod stage;

/// 128 random bits.
fn random_hex() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
