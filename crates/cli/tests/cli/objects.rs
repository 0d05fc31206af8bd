//! The program with its source in Azurite, as a user's shell would set it up: credentials in variables, which are never
//! seen again; processes that are killed; a service that fails, or is away.

use std::process::Command;

use base64::Engine as _;
use seriatim_testing::{Azurite, Fault, Faulty};

use crate::support::{Outcome, Project, Watched};

/// An emulator with an account of its own, whose key is known to be nowhere else.
struct Cloud {
    azurite: Azurite,
    container: String,
    key: String,
}

impl Cloud {
    /// With the demo's data in it, and the demo's pipeline over it.
    fn with(project: &Project) -> Self {
        let key = base64::engine::general_purpose::STANDARD.encode("canary-".repeat(10));
        let azurite = Azurite::with_account("canaryaccount", &key);
        let container = azurite.container();
        for (path, bytes) in project.files("data") {
            let name = format!("{container}/data/{}", path.display());
            let (status, text) = azurite.request("PUT", &name, &[("x-ms-blob-type", "BlockBlob")], &bytes);
            assert_eq!(status, 201, "{text}");
        }
        let text = std::fs::read_to_string(project.pipeline()).unwrap();
        let over = text.replace("files: data/", &format!("files: az://{container}/data/"));
        assert_ne!(text, over, "the pipeline reads elsewhere now");
        std::fs::write(project.pipeline(), over).unwrap();
        Self { azurite, container, key }
    }

    /// A command that finds it through its connection string.
    fn known_to(&self, command: &mut Command) {
        command.env("AZURE_STORAGE_CONNECTION_STRING", self.azurite.connection_string());
    }

    /// The same behind another address.
    fn behind(&self, address: &str, command: &mut Command) {
        let endpoint = format!("http://{address}/{}", self.azurite.account());
        command.env("AZURE_STORAGE_ENDPOINT", endpoint).env("AZURE_STORAGE_KEY", &self.key);
    }
}

/// Where what was published is not what local files give.
#[track_caller]
fn assert_like_local(project: &Project, local: &Project) {
    assert!(project.tables("out") == local.tables("out"), "other bytes than with local files");
}

#[test]
fn credentials_are_used_and_never_seen_again() {
    let (project, local) = (Project::new(20_000, 3), Project::new(20_000, 3));
    local.run(&[]);
    let cloud = Cloud::with(&project);
    let sas = cloud.azurite.sas();
    let signature = sas.split("sig=").nth(1).unwrap().to_owned();
    let decoded = percent_decoded(&signature);
    let mut seen = Vec::new();
    let mut call = |command: &str, args: &[&str], variables: &[(&str, &str)]| {
        let mut built = project.command(command, args);
        built.env("SERIATIM_LOG", "trace").env("SERIATIM_STORAGE_TIMEOUT", "2").envs(variables.iter().copied());
        let outcome = Outcome::of(built);
        seen.push(outcome.stdout.clone());
        seen.push(outcome.stderr.clone());
        outcome
    };
    let endpoint = cloud.azurite.blob_endpoint();
    let with_key = [("AZURE_STORAGE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_KEY", &cloud.key)];
    let with_sas = [("AZURE_STORAGE_ENDPOINT", endpoint.as_str()), ("AZURE_STORAGE_SAS_TOKEN", sas.as_str())];
    let connection = cloud.azurite.connection_string();
    call("check", &[], &with_sas).with_code(0);
    call("plan", &["--json"], &[("AZURE_STORAGE_CONNECTION_STRING", &connection)]).with_code(0);
    // A service that fails now and then, so that requests are repeated, and logged.
    let azurite = &cloud.azurite;
    let faulty = Faulty::before(&azurite.blob_address(), |request| {
        if request.number.is_multiple_of(3) { Fault::Cut(50) } else { Fault::None }
    });
    let behind = format!("http://{}/{}", faulty.address(), azurite.account());
    call("run", &[], &[("AZURE_STORAGE_ENDPOINT", behind.as_str()), ("AZURE_STORAGE_SAS_TOKEN", &sas)]).with_code(0);
    assert_like_local(&project, &local);
    call("run", &[], &with_key).with_code(0);
    let wrong = format!("{sas}AA");
    call("plan", &[], &[with_sas[0], ("AZURE_STORAGE_SAS_TOKEN", &wrong)]).with_code(1);
    let away = [("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9/canaryaccount"), with_sas[1]];
    let told = call("plan", &[], &away).with_code(1);
    assert!(told.stderr.contains("127.0.0.1") || told.stderr.contains("az://"), "{}", told.stderr);
    seen.extend(project.files("").into_values().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    for secret in [&cloud.key, &signature, &decoded] {
        assert!(secret.len() > 40, "a short secret could be found by chance");
        let found = seen.iter().find(|text| text.contains(secret.as_str()));
        assert_eq!(found, None, "a credential is seen");
    }
}

fn percent_decoded(text: &str) -> String {
    text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")
}

#[test]
fn g5_a_run_over_objects_that_is_killed_is_taken_up() {
    let (project, local) = (Project::new(200_000, 3), Project::new(200_000, 3));
    let slow = ["--workers", "1", "--chunk-rows", "1000"];
    local.run(&slow);
    let cloud = Cloud::with(&project);
    for announced in ["scan", "write"] {
        let mut command = project.command("run", &slow);
        cloud.known_to(&mut command);
        let mut run = Watched::start(command);
        run.wait_for(announced);
        run.signal("KILL");
        run.outcome().with_code(-1);
    }
    let mut command = project.command("run", &slow);
    cloud.known_to(&mut command);
    Outcome::of(command).with_code(0);
    assert_like_local(&project, &local);
    assert!(!project.files(".seriatim").keys().any(|path| path.starts_with("work")), "something is left");
}

#[test]
fn g7_a_service_that_fails_now_and_then_changes_nothing() {
    let (project, local) = (Project::new(50_000, 3), Project::new(50_000, 3));
    local.run(&[]);
    let cloud = Cloud::with(&project);
    let faulty = Faulty::before(&cloud.azurite.blob_address(), |request| {
        let faults = [Fault::Lost, Fault::None, Fault::Status(503), Fault::None, Fault::Cut(1000), Fault::AnswerLost];
        faults[request.number as usize % faults.len()]
    });
    let mut command = project.command("run", &["--json"]);
    cloud.behind(faulty.address(), &mut command);
    Outcome::of(command).with_code(0);
    assert!(faulty.requests() > 10, "{}", faulty.requests());
    assert_like_local(&project, &local);
    project.assert_verified();
}

#[test]
fn g8_a_service_that_goes_away_leaves_nothing_behind_and_the_next_run_does_it() {
    let (project, local) = (Project::new(50_000, 3), Project::new(50_000, 3));
    local.run(&[]);
    let cloud = Cloud::with(&project);
    // It is there for the plan, and not any more when columns are asked for.
    let faulty = Faulty::before(&cloud.azurite.blob_address(), |request| {
        let asks_columns = request.header("range").is_some_and(|range| range.starts_with("bytes=4-"));
        if asks_columns { Fault::Status(503) } else { Fault::None }
    });
    let mut command = project.command("run", &[]);
    cloud.behind(faulty.address(), &mut command);
    command.env("SERIATIM_STORAGE_TIMEOUT", "0.5");
    let told = Outcome::of(command).with_code(1);
    let container = &cloud.container;
    assert!(told.stderr.contains(&format!("az://{container}/data/")), "{}", told.stderr);
    assert!(told.stderr.contains("503") && told.stderr.contains("run again"), "{}", told.stderr);
    assert!(project.tables("out").is_empty());
    let mut command = project.command("run", &[]);
    cloud.known_to(&mut command);
    Outcome::of(command).with_code(0);
    assert_like_local(&project, &local);
}
