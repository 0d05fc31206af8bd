//! What the tests share: the binary, a folder with demo data, a child that is watched and signalled.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The binary, in an environment that says nothing about colours or logs.
pub(crate) fn seriatim<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seriatim"));
    command.args(args).env_remove("SERIATIM_LOG").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn of(mut command: Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// The outcome, which must have this exit code.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A folder with demo data and its pipeline.
#[derive(Debug)]
pub(crate) struct Project {
    folder: TempDir,
}

impl Project {
    /// Data of this size, nothing run yet.
    pub(crate) fn new(rows: u64, files: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder };
        let place = project.folder.path().join("demo");
        let args = ["demo", "--data-only", "--rows", &rows.to_string(), "--files", &files.to_string(), "--folder"];
        Outcome::of({
            let mut command = seriatim(args);
            command.arg(place);
            command
        })
        .with_code(0);
        project
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join("demo").join(relative)
    }

    pub(crate) fn pipeline(&self) -> PathBuf {
        self.path("retail.yaml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path(".seriatim")
    }

    /// `seriatim <command> <pipeline> <args>`
    pub(crate) fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut built = seriatim([command]);
        built.arg(self.pipeline()).args(args);
        built
    }

    pub(crate) fn call(&self, command: &str, args: &[&str]) -> Outcome {
        Outcome::of(self.command(command, args))
    }

    /// `seriatim <args> --pipeline <pipeline>`
    pub(crate) fn ask(&self, args: &[&str]) -> Outcome {
        let mut built = seriatim(args);
        built.arg("--pipeline").arg(self.pipeline());
        Outcome::of(built)
    }

    /// Runs to the end and gives back the reports.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = ["--json", "--quiet"].into_iter().chain(args.iter().copied()).collect();
        let document = self.call("run", &args).with_code(0).json();
        document["runs"].as_array().unwrap().clone()
    }

    /// The audit holds.
    #[track_caller]
    pub(crate) fn assert_verified(&self) {
        let report = self.call("verify", &["--json"]).with_code(0).json();
        assert_eq!(report["ok"], true, "{report:#}");
    }

    /// Puts the file for another month where the pipeline looks.
    pub(crate) fn add_later_file(&self) {
        for entry in fs::read_dir(self.path("later")).unwrap() {
            let path = entry.unwrap().path();
            fs::rename(&path, self.path("data").join(path.file_name().unwrap())).unwrap();
        }
    }

    /// Every file under `relative`, with its bytes.
    pub(crate) fn files(&self, relative: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let root = self.path(relative);
        collect(&root, &root, &mut files);
        files
    }

    /// The table files of an output folder, with their bytes; not the manifest, which has times in it.
    pub(crate) fn tables(&self, relative: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = self.files(relative);
        files.retain(|path, _| path.extension().is_some_and(|extension| extension == "parquet"));
        files
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

/// The report of one table.
#[track_caller]
pub(crate) fn table<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tables = report["tables"].as_array().unwrap();
    tables.iter().find(|table| table["table"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// A child whose stderr is read line by line, so that tests act at a moment that the child itself announces.
#[derive(Debug)]
pub(crate) struct Watched {
    child: Child,
    stderr: BufReader<ChildStderr>,
    seen: String,
}

impl Watched {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, seen: String::new() }
    }

    /// Reads on until a line has `text` in it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "ended without `{text}`:\n{}", self.seen);
            self.seen.push_str(&line);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Sends a signal, such as `INT`.
    pub(crate) fn signal(&self, name: &str) -> ExitStatus {
        Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends.
    pub(crate) fn outcome(mut self) -> Outcome {
        self.stderr.read_to_string(&mut self.seen).unwrap();
        let output = self.child.wait_with_output().unwrap();
        Outcome { stderr: self.seen, ..Outcome::from(output) }
    }
}
