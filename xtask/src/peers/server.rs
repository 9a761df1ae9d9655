//! One engine in a process of its own, behind the line protocol of `benches/peers/peers.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// An engine that has loaded its model.
pub struct Server {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it calls its version.
    pub version: String,
}

impl Server {
    /// Starts an engine and waits until it has loaded the model.
    ///
    /// # Errors
    /// Why it does not run the model.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|why| format!("cannot start: {why}"))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("cannot talk to it".to_owned());
        };
        let mut server = Server { child, requests, answers: BufReader::new(answers), version: String::new() };
        let first = server.read()?;
        match first.split_once(' ') {
            Some(("ready", version)) => {
                server.version = version.to_owned();
                Ok(server)
            }
            Some(("refused", why)) => Err(why.to_owned()),
            _ => Err(format!("it answered `{first}`")),
        }
    }

    /// Milliseconds of `count` calls.
    pub fn run(&mut self, count: usize) -> Result<Vec<f64>, String> {
        let answer = self.ask(&format!("run {count}"))?;
        let times = answer.strip_prefix("times ").ok_or_else(|| format!("it answered `{answer}`"))?;
        times.split(' ').map(|t| t.parse().map_err(|_| format!("`{t}` is no time"))).collect()
    }

    /// Its outputs, through this file.
    pub fn output(&mut self, path: &Path) -> Result<Vec<f32>, String> {
        let answer = self.ask(&format!("output {}", path.display()))?;
        if answer != "done" {
            return Err(format!("it answered `{answer}`"));
        }
        let bytes = std::fs::read(path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn ask(&mut self, line: &str) -> Result<String, String> {
        writeln!(self.requests, "{line}").map_err(|why| format!("it is gone: {why}"))?;
        self.read()
    }

    fn read(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err("it ended without an answer".to_owned()),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(why) => Err(format!("it is gone: {why}")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
