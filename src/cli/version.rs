//! `millrace version`.

use serde::Serialize;

use super::CliError;
use super::output::Output;

/// The version's command.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    version: &'static str,
    librdkafka: String,
}

impl Version {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let version = env!("CARGO_PKG_VERSION");
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        let mut output = Output::new();
        match self.json {
            true => output.json(&Shown {
                version,
                librdkafka,
            })?,
            false => output.line(format_args!("millrace {version} (librdkafka {librdkafka})"))?,
        }
        output.flush()
    }
}
