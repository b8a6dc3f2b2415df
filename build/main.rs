//! Makes the protocol's codec: reads the facts in `src/protocol/messages.txt` and writes one struct
//! per message, with how it is read and written, to `OUT_DIR`. It looks at nothing else.

mod codegen;
mod schema;

use std::path::PathBuf;
use std::{env, fs};

const FACTS: &str = "src/protocol/messages.txt";

fn main() {
    println!("cargo::rerun-if-changed={FACTS}");
    println!("cargo::rerun-if-changed=build");
    let text = fs::read_to_string(FACTS).expect("the message facts are part of the source");
    let messages = schema::parse(&text).unwrap_or_else(|error| panic!("{FACTS}: {error}"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (name, code) in [
        ("messages.rs", codegen::messages(&messages)),
        ("api_keys.rs", codegen::api_keys(&messages)),
        ("every_message.rs", codegen::every_message(&messages)),
    ] {
        fs::write(out.join(name), code).expect("OUT_DIR is writable");
    }
}
