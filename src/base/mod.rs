//! Words that every room shares: identifiers, the clock, bounds and random numbers.
//!
//! Depends on no other room. Nothing here does I/O, and nothing here knows what a request is.
//!
//! What must stay true:
//! - every bound on a buffer, queue or count stands in [`limits`], with its reason;
//! - an identifier is a type of its own: no bare pair of integers crosses a room's border;

pub mod clock;
pub mod ids;
pub mod limits;
pub mod log_limit;
pub mod random;
