//! What only a server can do wrong, and what it is there for.

use super::*;
