//! The `flowlet` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    flowlet_cli::main()
}
