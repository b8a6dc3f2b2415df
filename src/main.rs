//! The `millrace` program: hands the command line to the process room and exits with its code.

fn main() {}
