//! `seriatim serve`: task hubs for other processes and other languages, until a signal ends it. Must never listen where
//! anybody could come in: the servers see to that, and refuse.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use seriatim_serve::grpc::{GrpcServer, Limits, Security, ServeError, Tls, Token};
use seriatim_serve::hubs::{Hubs, HubsOptions};

use crate::args::{AccessArgs, ServeArgs};
use crate::engine;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::ui::Ui;

/// The environment variable that may hold the token. It is no option with `env`, because help texts and errors of
/// options show values.
const TOKEN: &str = "SERIATIM_TOKEN";

/// The line of `serve --json`.
#[derive(Debug, Serialize)]
struct Document {
    grpc: String,
}

/// Serves until a signal comes.
pub(super) fn execute(args: &ServeArgs, ui: &Ui) -> Result<(), CliError> {
    let security = security(&args.access)?;
    engine::runtime()?.block_on(async {
        let interrupt = Interrupt::listen()?;
        let grpc = GrpcServer::bind(args.grpc, security, Limits::default()).await.map_err(|error| refused(&error))?;
        let hubs = Hubs::open(&args.state, options(args)).await.map_err(|error| engine::cannot_open(&error))?;
        let _graceful = interrupt.graceful();
        say_where(&grpc, args.json, ui)?;
        let served = serve(grpc, &hubs, &interrupt, ui).await;
        hubs.close().await.map_err(|error| CliError::failed(error.to_string()))?;
        served
    })
}

async fn serve(grpc: GrpcServer, hubs: &Arc<Hubs>, interrupt: &Interrupt, ui: &Ui) -> Result<(), CliError> {
    let stop = async {
        interrupt.wanted().await;
        ui.remark("stopping");
    };
    let closing = async {
        interrupt.wanted().await;
        // Streams of work items and waits would go on for ever: they end with the hubs. A failure of a store was told
        // when it happened, and once more when the hubs are closed at the end.
        let _ = hubs.close().await;
    };
    let running = grpc.run(Arc::clone(hubs), stop);
    tokio::pin!(running);
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        () = closing => running.await,
    };
    outcome.map_err(|error| refused(&error))
}

fn options(args: &ServeArgs) -> HubsOptions {
    let mut options = HubsOptions::default();
    options.hub.entity_items = match args.entity_items {
        crate::args::EntityItems::Batch => seriatim_hub::EntityItems::Batch,
        crate::args::EntityItems::Events => seriatim_hub::EntityItems::Events,
    };
    options
}

fn say_where(grpc: &GrpcServer, json: bool, ui: &Ui) -> Result<(), CliError> {
    let scheme = if grpc.is_encrypted() { "https" } else { "http" };
    let address = format!("{scheme}://{}", grpc.address());
    if !json {
        return ui.line(format!("gRPC {address}"));
    }
    let line = serde_json::to_string(&Document { grpc: address })
        .map_err(|error| CliError::failed(format!("cannot write the address as JSON: {error}")))?;
    ui.line(line)
}

fn security(args: &AccessArgs) -> Result<Security, CliError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| CliError::io("read", path, &error));
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls {
            certificate: read(certificate)?,
            key: read(key)?,
            client_ca: args.tls_client_ca.as_deref().map(read).transpose()?,
        }),
        _ => None,
    };
    let token = match &args.token_file {
        Some(path) => Some(String::from_utf8_lossy(&read(path)?).into_owned()),
        None => std::env::var(TOKEN).ok().filter(|token| !token.is_empty()),
    };
    let token = token.map(|token| Token::new(&token)).transpose().map_err(|error| refused(&error))?;
    Ok(Security { tls, token })
}

/// What is wrong with the command line, or with the machine.
fn refused(error: &ServeError) -> CliError {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    match error {
        ServeError::Unprotected { .. } | ServeError::Token(_) | ServeError::Tls(_) => {
            CliError::CommandLine { message, help: "`seriatim serve --help` lists what protects a server".to_owned() }
        }
        _ => CliError::failed(message),
    }
}
