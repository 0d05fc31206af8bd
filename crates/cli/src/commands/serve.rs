//! `seriatim serve`: task hubs for other processes and other languages, over gRPC and HTTP, until a signal ends it. Must
//! never listen where anybody could come in: the servers see to that, and refuse.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use seriatim_serve::grpc::{GrpcServer, Limits, Security, ServeError, Tls, Token};
use seriatim_serve::hubs::{Hubs, HubsOptions};

use super::serve_http::{self, Http};
use crate::args::{AccessArgs, ServeArgs};
use crate::engine;
use crate::error::{CliError, with_causes};
use crate::interrupt::Interrupt;
use crate::ui::Ui;

/// The environment variable that may hold the token. It is no option with `env`, because help texts and errors of
/// options show values.
const TOKEN: &str = "SERIATIM_TOKEN";

/// The line of `serve --json`.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
}

/// Serves until a signal comes.
pub(super) fn execute(args: &ServeArgs, ui: &Ui) -> Result<(), CliError> {
    let token = token(&args.access)?;
    let security = security(&args.access, token.as_deref())?;
    engine::runtime()?.block_on(async {
        let interrupt = Interrupt::listen()?;
        let http = serve_http::wanted(args, token.as_deref())?;
        let grpc = if http.as_ref().is_some_and(|http| http.by_functions) {
            None
        } else {
            let bound = GrpcServer::bind(args.grpc, security, Limits::default()).await;
            Some(bound.map_err(|error| refused(&error))?)
        };
        let hubs = Hubs::open(&args.state, options(args)).await.map_err(|error| engine::cannot_open(&error))?;
        let _graceful = interrupt.graceful();
        let served = serve(grpc, http, args, &hubs, &interrupt, ui).await;
        hubs.close().await.map_err(|error| CliError::failed(error.to_string()))?;
        served
    })
}

async fn serve(
    grpc: Option<GrpcServer>,
    http: Option<serve_http::Wanted>,
    args: &ServeArgs,
    hubs: &Arc<Hubs>,
    interrupt: &Interrupt,
    ui: &Ui,
) -> Result<(), CliError> {
    let http = match http {
        Some(wanted) => Some(Http::bind(wanted, args, hubs).await?),
        None => None,
    };
    say_where(grpc.as_ref(), http.as_ref(), args.json, ui)?;
    let runs = http.as_ref().and_then(Http::runs);
    let over_grpc = async {
        match grpc {
            Some(grpc) => grpc.run(Arc::clone(hubs), interrupt.wanted()).await.map_err(|error| refused(&error)),
            None => Ok(()),
        }
    };
    let over_http = async {
        match http {
            Some(http) => http.run(interrupt.wanted()).await,
            None => Ok(()),
        }
    };
    let closing = async {
        interrupt.wanted().await;
        ui.remark("stopping");
        if let Some(runs) = &runs {
            runs.stop().await;
        }
        // Streams of work items and waits would go on for ever: they end with the hubs. A failure of a store was told
        // when it happened, and once more when the hubs are closed at the end.
        let _ = hubs.close().await;
        Ok(())
    };
    tokio::try_join!(over_grpc, over_http, closing).map(|_| ())
}

fn options(args: &ServeArgs) -> HubsOptions {
    let mut options = HubsOptions::default();
    options.hub.entity_items = match args.entity_items {
        crate::args::EntityItems::Batch => seriatim_hub::EntityItems::Batch,
        crate::args::EntityItems::Events => seriatim_hub::EntityItems::Events,
    };
    options
}

fn say_where(grpc: Option<&GrpcServer>, http: Option<&Http>, json: bool, ui: &Ui) -> Result<(), CliError> {
    let grpc = grpc.map(|grpc| {
        let scheme = if grpc.is_encrypted() { "https" } else { "http" };
        format!("{scheme}://{}", grpc.address())
    });
    let http = http.map(Http::url);
    if json {
        let line = serde_json::to_string(&Document { grpc, http })
            .map_err(|error| CliError::failed(format!("cannot write the addresses as JSON: {error}")))?;
        return ui.line(line);
    }
    for (what, address) in [("gRPC", grpc), ("HTTP", http)] {
        if let Some(address) = address {
            ui.line(format!("{what} {address}"))?;
        }
    }
    Ok(())
}

/// The token that calls and requests must carry, if there is to be one.
fn token(args: &AccessArgs) -> Result<Option<String>, CliError> {
    Ok(match &args.token_file {
        Some(path) => Some(String::from_utf8_lossy(&read(path)?).trim().to_owned()),
        None => std::env::var(TOKEN).ok().filter(|token| !token.is_empty()),
    })
}

fn security(args: &AccessArgs, token: Option<&str>) -> Result<Security, CliError> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls {
            certificate: read(certificate)?,
            key: read(key)?,
            client_ca: args.tls_client_ca.as_deref().map(read).transpose()?,
        }),
        _ => None,
    };
    let token = token.map(Token::new).transpose().map_err(|error| refused(&error))?;
    Ok(Security { tls, token })
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::io("read", path, &error))
}

/// What is wrong with the command line, or with the machine.
fn refused(error: &ServeError) -> CliError {
    let message = with_causes(error);
    match error {
        ServeError::Unprotected { .. } | ServeError::Token(_) | ServeError::Tls(_) => {
            CliError::CommandLine { message, help: "`seriatim serve --help` lists what protects a server".to_owned() }
        }
        _ => CliError::failed(message),
    }
}
