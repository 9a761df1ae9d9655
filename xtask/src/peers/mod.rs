//! `cargo xtask peers`: the same ONNX models through flowlet and through the runtimes people use, in one interleaved
//! run.
//!
//! Every engine is a process that keeps its model loaded; in every round each is timed for a moment, so that what else
//! the machine does meets all of them. A ratio is the peer's median over ours in one round; the table gives the median
//! of the rounds and their spread. Writes `target/peers.json`.

mod server;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::cargo;
use server::Server;
use table::{Peak, Refusal, Row, Table, median, snr_db};

/// A network and how it is asked.
struct Network {
    name: &'static str,
    /// Inputs with one value, for all engines.
    fixed: &'static [(&'static str, &'static str)],
    /// The noise input.
    noise: &'static str,
    /// Class labels.
    index: Option<&'static str>,
    /// Its file, when it is in the repository; else `tests/networks` makes it.
    file: Option<&'static str>,
}

const T: &[(&str, &str)] = &[("t", "0.001")];

/// The bundled models, and the networks of other people's kinds.
const NETWORKS: &[Network] = &[
    Network {
        name: "fashion-tiny",
        fixed: &[("t", "0")],
        noise: "noise",
        index: Some("label=10"),
        file: Some("models/fashion-tiny/fashion-tiny.onnx"),
    },
    Network {
        name: "fashion",
        fixed: &[("t", "0")],
        noise: "noise",
        index: Some("label=10"),
        file: Some("models/fashion/fashion.onnx"),
    },
    Network { name: "slim_fmnist_bn", fixed: T, noise: "z", index: Some("label=10"), file: None },
    Network { name: "slim_fmnist", fixed: T, noise: "z", index: Some("label=10"), file: None },
    Network { name: "dit_tiny", fixed: T, noise: "z", index: Some("label=10"), file: None },
    Network { name: "policy_unet1d", fixed: T, noise: "noise", index: None, file: None },
    Network { name: "policy_mlp", fixed: T, noise: "noise", index: None, file: None },
    Network { name: "slim_cifar", fixed: T, noise: "z", index: None, file: None },
];

/// An engine in one precision.
#[derive(Clone, Copy)]
struct Engine {
    name: &'static str,
    precision: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    Python,
    Crate,
}

const OURS: [Engine; 3] = [
    Engine { name: "flowlet", precision: "int8", kind: Kind::Ours },
    Engine { name: "flowlet", precision: "f32", kind: Kind::Ours },
    Engine { name: "flowlet", precision: "f16", kind: Kind::Ours },
];
/// The yardstick of every signal-to-noise ratio.
const REFERENCE: Engine = Engine { name: "onnxruntime", precision: "f32", kind: Kind::Python };
const PEERS: &[Engine] = &[
    REFERENCE,
    Engine { precision: "int8", ..REFERENCE },
    Engine { name: "openvino", ..REFERENCE },
    Engine { name: "openvino", precision: "int8", ..REFERENCE },
    Engine { name: "ncnn", ..REFERENCE },
    Engine { name: "litert", ..REFERENCE },
    Engine { name: "tract", precision: "f32", kind: Kind::Crate },
    Engine { name: "rten", precision: "f32", kind: Kind::Crate },
];

const ROUNDS: usize = 7;
/// How long an engine is timed in one round.
const TURN: Duration = Duration::from_millis(150);
const MOST_CALLS: usize = 4000;
/// Before a turn: threads of the engine before spin a while after their last call.
const PAUSE: Duration = Duration::from_millis(60);
/// The load under which a comparison begins, and how long to wait for it.
const QUIET: f64 = 0.3;
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs the command; words choose networks by name.
pub fn command(install: bool, words: &[&str]) -> ExitCode {
    let chosen: Vec<&Network> = NETWORKS.iter().filter(|n| words.is_empty() || words.contains(&n.name)).collect();
    if let Some(word) = words.iter().find(|w| !NETWORKS.iter().any(|n| n.name == **w)) {
        let names: Vec<&str> = NETWORKS.iter().map(|n| n.name).collect();
        eprintln!("error: there is no network `{word}`; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let place = Place::new();
    if let Err(why) = place.ensure(install, &chosen) {
        eprintln!("error: {why}");
        return ExitCode::from(3);
    }
    match compare(&place, &chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The interpreter that has the pinned peers.
pub fn python() -> PathBuf {
    Place::new().python()
}

/// Brings the Python environment with the pinned peers if `install`, else says what is missing.
///
/// # Errors
/// When it is not there, or cannot be made.
pub fn environment_ready(install: bool) -> Result<(), String> {
    let place = Place::new();
    if place.python().exists() {
        return Ok(());
    }
    let requirements = requirements();
    if !install {
        return Err(format!(
            "the peers are not in {}: a Python environment with {}\nrun the same command with --install. Nothing was changed.",
            place.folder.display(),
            requirements.display()
        ));
    }
    environment(&place.folder.join("venv"), &["-r", &requirements.display().to_string()])
}

fn requirements() -> PathBuf {
    cargo::root().join("benches/peers/requirements.txt")
}

/// Where things of the comparison are.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new() -> Self {
        Place { folder: cargo::target().join("peers") }
    }

    fn python(&self) -> PathBuf {
        self.folder.join("venv/bin/python")
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("build/release").join(name)
    }

    fn network(&self, network: &Network) -> PathBuf {
        match network.file {
            Some(file) => cargo::root().join(file),
            None => self.folder.join("networks").join(format!("{}.onnx", network.name)),
        }
    }

    fn samples(&self, network: &Network) -> PathBuf {
        self.folder.join("samples").join(network.name)
    }

    /// Brings what is missing if `install`, else says what would.
    fn ensure(&self, install: bool, networks: &[&Network]) -> Result<(), String> {
        let sources = cargo::root().join("benches/peers");
        let requirements = requirements();
        let missing: Vec<&str> = networks.iter().filter(|n| !self.network(n).exists()).map(|n| n.name).collect();
        if !install && (!self.python().exists() || !missing.is_empty()) {
            let mut what = vec![format!("the peers are not all in {}", self.folder.display())];
            if !self.python().exists() {
                what.push(format!("  a Python environment with {}", requirements.display()));
            }
            if !missing.is_empty() {
                what.push(format!("  the networks {} (made by tests/networks with PyTorch)", missing.join(", ")));
            }
            what.push("run the same command with --install. Nothing was changed.".to_owned());
            return Err(what.join("\n"));
        }
        environment_ready(true)?;
        if !missing.is_empty() {
            let torch = self.folder.join("torch");
            if !torch.join("bin/python").exists() {
                environment(&torch, &["torch==2.4.1", "onnx==1.16.2", "onnxruntime", "numpy<2"])?;
            }
            let out = self.folder.join("networks");
            let mut make = Command::new(torch.join("bin/python"));
            make.args(["-m", "networks"]).arg(&out).args(&missing).current_dir(cargo::root().join("tests"));
            cargo::run(make.env("ORT_DISABLE_TELEMETRY", "1"))?;
            for name in missing {
                let made = out.join(format!("{name}.legacy17.onnx"));
                std::fs::rename(&made, out.join(format!("{name}.onnx"))).map_err(|why| format!("{name}: {why}"))?;
            }
        }
        let mut build = Command::new(cargo::program());
        build.args(["build", "--release", "--features", "crates"]).current_dir(&sources);
        cargo::run(build.env("CARGO_TARGET_DIR", self.folder.join("build")))?;
        cargo::run(&mut cargo::call(&["build", "--release", "-p", "flowlet-cli"]))
    }
}

fn environment(folder: &Path, packages: &[&str]) -> Result<(), String> {
    cargo::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let installed = cargo::run(Command::new(folder.join("bin/pip")).args(["install", "-q"]).args(packages));
    installed.map_err(|why| {
        // Half an environment would be taken for a whole one.
        let _ = std::fs::remove_dir_all(folder);
        format!(
            "{why}\nthe packages come from a Python package index: is one reachable from here (`pip download onnx`)?"
        )
    })
}

fn compare(place: &Place, networks: &[&Network]) -> Result<(), String> {
    let load = wait_for_quiet();
    let peak = cargo::answer(&place.program("peak").display().to_string(), &[]).unwrap_or_default();
    let mut table = Table::new(load, peak.lines().filter_map(Peak::parse).collect());
    for network in networks {
        prepare(place, network)?;
        let ours = ["int8", "f32"].map(|precision| compile(place, network, precision));
        for threads in [1, 2] {
            measure(place, network, &ours, threads, &mut table);
        }
    }
    table.print();
    let path = cargo::target().join("peers.json");
    std::fs::write(&path, table.to_json()).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// The load average when the run begins.
fn wait_for_quiet() -> f64 {
    let load = || {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        text.split(' ').next().and_then(|l| l.parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    let started = Instant::now();
    while load() >= QUIET && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_secs(5));
    }
    load()
}

fn prepare(place: &Place, network: &Network) -> Result<(), String> {
    let samples = place.samples(network);
    if samples.join("sample").exists() {
        return Ok(());
    }
    let mut command = Command::new(place.python());
    command.arg(cargo::root().join("benches/peers/peers.py")).arg("prepare").arg(place.network(network)).arg(samples);
    for (name, value) in network.fixed {
        command.arg("--fixed").arg(format!("{name}={value}"));
    }
    cargo::run(&mut command)
}

/// Our model, in int8 calibrated on the same samples; or why there is none.
fn compile(place: &Place, network: &Network, precision: &str) -> Result<PathBuf, String> {
    let flq = place.samples(network).join(format!("ours.{precision}.flq"));
    let config = place.samples(network).join("model.toml");
    std::fs::write(&config, format!("name = \"{}\"\n", network.name)).map_err(|why| why.to_string())?;
    let mut command = Command::new(cargo::target().join("release/flowlet"));
    command.arg("quantize").arg(place.network(network)).arg("--output").arg(&flq).arg("--config").arg(config);
    command.args(["--precision", precision]);
    command.arg("--calibrate").arg(place.samples(network).join("calibration")).args(["--noise", network.noise]);
    for (name, value) in network.fixed {
        command.arg("--set").arg(format!("{name}={value}"));
    }
    if let Some(index) = network.index {
        command.args(["--index", index]);
    }
    println!("{}: compiling to {precision}", network.name);
    let output = command.output().map_err(|why| format!("cannot start flowlet: {why}"))?;
    if output.status.success() {
        return Ok(flq);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(errors.lines().find(|l| l.starts_with("error")).or(errors.lines().last()).unwrap_or("it failed").to_owned())
}

fn start(
    place: &Place,
    network: &Network,
    engine: Engine,
    flq: Option<&Path>,
    threads: usize,
) -> Result<Server, String> {
    let samples = place.samples(network);
    let threads = threads.to_string();
    let mut command = match engine.kind {
        Kind::Python => {
            let mut command = Command::new(place.python());
            command.arg(cargo::root().join("benches/peers/peers.py")).args(["serve", engine.name]);
            command.arg(place.network(network)).arg(samples).args(["--precision", engine.precision]);
            command
        }
        Kind::Crate | Kind::Ours => {
            let program = if engine.kind == Kind::Ours { "ours" } else { engine.name };
            let mut command = Command::new(place.program(program));
            command.arg(flq.map_or_else(|| place.network(network), Path::to_path_buf)).arg(samples);
            if engine.kind == Kind::Ours {
                command.args(["--precision", engine.precision]);
            }
            command
        }
    };
    command.args(["--threads", &threads]).env("OMP_NUM_THREADS", &threads).env("ORT_DISABLE_TELEMETRY", "1");
    Server::start(&mut command)
}

struct Lane {
    engine: Engine,
    server: Result<Server, String>,
    calls: usize,
    medians: Vec<f64>,
    snr_db: Option<f64>,
}

fn measure(
    place: &Place,
    network: &Network,
    [int8, float]: &[Result<PathBuf, String>; 2],
    threads: usize,
    table: &mut Table,
) {
    println!("{}: {threads} thread(s)", network.name);
    let mut lanes: Vec<Lane> = OURS
        .into_iter()
        .chain(PEERS.iter().copied())
        .map(|engine| {
            let ours = if engine.precision == "int8" { int8 } else { float };
            let server = match (engine.kind, ours) {
                (Kind::Ours, Ok(flq)) => start(place, network, engine, Some(flq), threads),
                (Kind::Ours, Err(why)) => Err(why.clone()),
                (Kind::Python | Kind::Crate, _) => start(place, network, engine, None, threads),
            };
            Lane { engine, server, calls: 1, medians: Vec::new(), snr_db: None }
        })
        .collect();
    let scratch = place.samples(network).join("output.bin");
    let mut outputs: Vec<Option<Vec<f32>>> = Vec::new();
    for lane in &mut lanes {
        outputs.push(lane.server.as_mut().ok().and_then(|server| server.output(&scratch).ok()));
    }
    let reference = lanes.iter().position(|l| (l.engine.name, l.engine.precision) == (REFERENCE.name, "f32"));
    if let Some(wanted) = reference.and_then(|i| outputs[i].clone()) {
        for (lane, output) in lanes.iter_mut().zip(&outputs) {
            lane.snr_db = output.as_ref().and_then(|o| snr_db(&wanted, o));
        }
    }
    for lane in &mut lanes {
        if let Ok(server) = &mut lane.server {
            match server.run(3) {
                Ok(times) => {
                    let calls = TURN.as_secs_f64() * 1e3 / median(&times).max(1e-3);
                    lane.calls = (calls as usize).clamp(3, MOST_CALLS);
                }
                Err(why) => lane.server = Err(why),
            }
        }
    }
    for _ in 0..ROUNDS {
        for lane in &mut lanes {
            if let Ok(server) = &mut lane.server {
                std::thread::sleep(PAUSE);
                // Caches and clock rates of the turn before are not this engine's.
                match server.run(lane.calls.div_ceil(8)).and_then(|_| server.run(lane.calls)) {
                    Ok(times) => lane.medians.push(median(&times)),
                    Err(why) => lane.server = Err(why),
                }
            }
        }
    }
    let (ours, peers) = lanes.split_at(OURS.len());
    // int8 against every peer, f32 against f32, and weights in f16 against the reference.
    let pairs = ours.iter().flat_map(|ours| peers.iter().map(move |peer| (ours, peer))).filter(|(ours, peer)| {
        let is_reference = peer.engine.name == REFERENCE.name;
        match ours.engine.precision {
            "int8" => true,
            "f32" => peer.engine.precision == "f32",
            _ => peer.engine.precision == "f32" && is_reference,
        }
    });
    for (ours, peer) in pairs {
        let version = |lane: &Lane| lane.server.as_ref().map(|s| s.version.clone()).unwrap_or_default();
        table.push(Row {
            model: network.name.to_owned(),
            threads,
            our_precision: ours.engine.precision.to_owned(),
            precision: peer.engine.precision.to_owned(),
            peer: peer.engine.name.to_owned(),
            peer_version: version(peer),
            ours: ours.medians.clone(),
            theirs: peer.medians.clone(),
            ours_snr_db: ours.snr_db,
            peer_snr_db: peer.snr_db,
            macs: version(ours).split_once(" macs ").and_then(|(_, macs)| macs.parse().ok()),
            refused: [ours, peer].iter().find_map(|lane| {
                let why = lane.server.as_ref().err()?;
                Some(Refusal { engine: format!("{} {}", lane.engine.name, lane.engine.precision), why: why.clone() })
            }),
        });
    }
}
