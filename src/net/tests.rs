//! Connections over real sockets, served by a small service of the tests' own.

mod fixture;
mod framing;
mod limits;
mod listening;
mod order;
mod stopping;
