//! The HTTP half of `seriatim serve`: from the command line and the environment to a server, also where the Azure
//! Functions host starts this program as its handler. Must never listen where `seriatim-http` refuses to.

use std::net::SocketAddr;
use std::sync::Arc;

use seriatim_http::{Options, OptionsError, Secret, Telemetry, Tls, Url};
use seriatim_serve::hubs::Hubs;
use tokio::net::TcpListener;

use crate::args::ServeArgs;
use crate::engine;
use crate::error::CliError;
use crate::http_hubs::HttpHubs;
use crate::http_runs::HttpRuns;
use crate::lineage::Destination;

/// What the command line and the environment ask for.
#[derive(Debug)]
pub(super) struct Wanted {
    address: SocketAddr,
    options: Options,
    /// Whether the Azure Functions host has started this program. Nothing else is served then: nobody would reach it.
    pub(super) by_functions: bool,
}

/// An HTTP server that is about to serve.
#[derive(Debug)]
pub(super) struct Http {
    listener: TcpListener,
    address: SocketAddr,
    options: Options,
    hubs: Arc<Hubs>,
    runs: Option<Arc<HttpRuns>>,
}

/// What to serve, if HTTP is to be served; `token` is the one that every request must carry. Must be called within a
/// Tokio runtime.
pub(super) fn wanted(args: &ServeArgs, token: Option<&str>) -> Result<Option<Wanted>, CliError> {
    let variable = |name: &str| std::env::var(name).ok();
    let tls = args.access.tls_cert.clone().zip(args.access.tls_key.clone());
    let client_ca = args.access.tls_client_ca.clone();
    let options = Options {
        public_url: args.public_url.as_deref().map(url).transpose()?,
        tokens: token.map(Secret::new).transpose().map_err(|error| refused(&error))?.into_iter().collect(),
        accept_code: args.accept_code,
        tls: tls.map(|(certificate, key)| Tls { certificate, key, client_ca }),
        behind_proxy: args.behind_proxy,
        ..Options::default()
    };
    let by_functions = seriatim_http::custom_handler(options.clone(), &variable).map_err(|error| refused(&error))?;
    let is_by_functions = by_functions.is_some();
    let Some((address, mut options)) = by_functions.or(args.http.map(|address| (address, options))) else {
        return match &args.pipelines {
            Some(_) => Err(CliError::CommandLine {
                message: "--pipelines is for HTTP clients, and HTTP is not served".to_owned(),
                help: "add --http, or --http ADDRESS".to_owned(),
            }),
            None => Ok(None),
        };
    };
    if is_by_functions {
        // The host does TLS, and speaks plain text with its handler.
        options.tls = None;
    }
    let telemetry = Telemetry::from_environment(&variable);
    options.telemetry = telemetry.map_err(|error| CliError::failed(error.to_string()))?;
    Ok(Some(Wanted { address, options, by_functions: is_by_functions }))
}

impl Http {
    /// Takes the address, and takes up what was running when the last server ended.
    pub(super) async fn bind(wanted: Wanted, args: &ServeArgs, hubs: &Arc<Hubs>) -> Result<Self, CliError> {
        let Wanted { address, options, .. } = wanted;
        options.check(address).map_err(|error| refused(&error))?;
        let listener = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) =
            listener.map_err(|error| CliError::failed(format!("cannot listen on {address} for HTTP: {error}")))?;
        let runs = match &args.pipelines {
            None => None,
            Some(folder) => {
                let hub = hubs.hub(None).await.map_err(|error| CliError::failed(error.to_string()))?;
                let options = engine::runner_options(&args.machine);
                let lineage = Destination::new(&args.lineage)?;
                let runs = Arc::new(HttpRuns::new(folder, options, Some((args.state.clone(), hub)), lineage)?);
                runs.take_up().await;
                Some(runs)
            }
        };
        Ok(Self { listener, address, options, hubs: Arc::clone(hubs), runs })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The runs that it has under way, which have to stop before the hubs are closed.
    pub(super) fn runs(&self) -> Option<Arc<HttpRuns>> {
        self.runs.clone()
    }

    /// Serves until `stop` is done.
    pub(super) async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), CliError> {
        let hubs = Arc::new(HttpHubs(self.hubs));
        let runs = self.runs.map(|runs| runs as Arc<dyn seriatim_http::Runs>);
        let served = seriatim_http::serve(self.listener, hubs, runs, self.options, stop).await;
        served.map_err(|error| match &error {
            seriatim_http::ServeError::Options(error) => refused(error),
            _ => CliError::failed(error.to_string()),
        })
    }
}

fn url(text: &str) -> Result<Url, CliError> {
    Url::parse(text).map_err(|_| refused(&OptionsError::bad_public_url(None)))
}

fn refused(error: &OptionsError) -> CliError {
    let help = "`seriatim serve --help` lists what protects a server".to_owned();
    CliError::CommandLine { message: error.to_string(), help }
}
