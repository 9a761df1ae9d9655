//! `flowlet-board-runner ELF`: runs a firmware image under QEMU and reports on it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use flowlet_board_runner::board::BOARDS;
use flowlet_board_runner::{Board, Error, Launch, panics, plugin, read, run};

const USAGE: &str = "\
usage: flowlet-board-runner ELF [options]
  --board NAME       which board to emulate (default: mps2-an386)
  --count DIR        count instructions; the plugin is compiled into DIR
  --timeout SECONDS  when to give up (default: 300)
  --no-panic-check   do not fail when the image can panic or allocates
  --json             print one JSON object instead of a table";

struct Options {
    elf: PathBuf,
    board: &'static Board,
    count: Option<PathBuf>,
    timeout: Duration,
    panic_check: bool,
    json: bool,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match report(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        elf: PathBuf::new(),
        board: &BOARDS[0],
        count: None,
        timeout: Duration::from_secs(300),
        panic_check: true,
        json: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("`{word}` needs a value"));
        match word.as_str() {
            "--board" => {
                let name = value()?;
                let known: Vec<_> = BOARDS.iter().map(|board| board.name).collect();
                options.board =
                    Board::named(&name).ok_or(format!("no board `{name}`; there are: {}", known.join(", ")))?;
            }
            "--count" => options.count = Some(PathBuf::from(value()?)),
            "--timeout" => {
                let seconds = value()?;
                options.timeout = seconds
                    .parse()
                    .map(Duration::from_secs)
                    .map_err(|_| format!("`--timeout {seconds}` is not a whole number of seconds"))?;
            }
            "--no-panic-check" => options.panic_check = false,
            "--json" => options.json = true,
            path if !path.starts_with('-') && options.elf.as_os_str().is_empty() => {
                options.elf = PathBuf::from(path);
            }
            other => return Err(format!("what is `{other}`?")),
        }
    }
    if options.elf.as_os_str().is_empty() {
        return Err("which ELF file?".to_owned());
    }
    Ok(options)
}

/// Prints the report; true when nothing in it is a failure.
fn report(options: &Options) -> Result<bool, Error> {
    let plugin = options.count.as_deref().map(plugin::build).transpose()?;
    let launch =
        Launch { board: options.board, elf: &options.elf, plugin: plugin.as_deref(), timeout: options.timeout };
    let report = run(&launch)?;
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{report}");
    }
    let mut good =
        report.models.iter().all(|model| model.instructions().is_none_or(|instructions| instructions.identical()));
    if options.panic_check {
        for finding in panics::check(&read(&options.elf)?)? {
            eprintln!("error: the image {finding}");
            good = false;
        }
    }
    Ok(good)
}
