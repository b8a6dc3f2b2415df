//! `millrace completions`: what a shell needs to complete the command line.

use clap_complete::Shell;

use super::CliError;
use super::output::Output;

const AFTER_HELP: &str = "\
bash: source <(millrace completions bash)
zsh:  millrace completions zsh > \"${fpath[1]}/_millrace\"
fish: millrace completions fish > ~/.config/fish/completions/millrace.fish";

/// The completions' command.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, mut program: clap::Command) -> Result<(), CliError> {
        let name = program.get_name().to_owned();
        // The generator panics where it cannot write; a buffer can always be written.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        let mut output = Output::new();
        output.bytes(&script)?;
        output.flush()
    }
}
