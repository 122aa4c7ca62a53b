//! What only Redis can do wrong.
