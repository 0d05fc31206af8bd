//! The options of whoever serves task hubs, works for one, or reaches one. Must never do anything but describe.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use seriatim_pipeline::parse_size;

use super::{LineageArgs, MachineArgs};

/// Which task hub, and how to reach it.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The task hub: `http://HOST:PORT`, `https://HOST:PORT`, or a connection string such as
    /// `Endpoint=https://HOST;TaskHub=NAME;Authentication=DefaultAzure`
    #[arg(long = "hub", value_name = "ADDRESS", env = "SERIATIM_HUB", hide_env_values = true)]
    pub(crate) address: String,
    /// How to reach it.
    #[command(flatten)]
    pub(crate) access: HubAccess,
}

/// How to reach a task hub elsewhere.
#[derive(Debug, Args)]
pub(crate) struct HubAccess {
    /// The task hub by name, if the server has several
    #[arg(long, value_name = "NAME")]
    pub(crate) task_hub: Option<String>,
    /// A file with the token that the server asks for; it is read again when the token is renewed [default: the
    /// environment variable `SERIATIM_HUB_TOKEN`, if it is set]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates (PEM) of the only authorities to trust [default: the public ones]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The certificate (PEM) to show to the server
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The key (PEM) of that certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// A folder that all workers and clients reach, for inputs and outputs that are too large for the hub
    #[arg(long, value_name = "DIR")]
    pub(crate) payloads: Option<PathBuf>,
    /// Bytes from which on they go there
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = parse_size)]
    pub(crate) payload_threshold: u64,
}

/// `seriatim worker`
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// Which task hub.
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// The folder for what this worker keeps: what it brings of key maps, and what does not fit into its memory
    #[arg(long, value_name = "DIR", default_value = ".seriatim")]
    pub(crate) state: PathBuf,
    /// How much of the machine to use.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// `seriatim serve`
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the hubs' state is; it is made if it is missing
    #[arg(long, value_name = "DIR", default_value = ".seriatim")]
    pub(crate) state: PathBuf,
    /// The address of the gRPC server; port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4001")]
    pub(crate) grpc: SocketAddr,
    /// Serve HTTP as well, on this address: the HTTP contract of Durable Functions, runs, health, metrics
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:8080")]
    pub(crate) http: Option<SocketAddr>,
    /// How clients reach the HTTP server, if not by its address; with a path if a proxy passes one on
    #[arg(long, value_name = "URL", env = "SERIATIM_PUBLIC_URL", hide_env_values = true)]
    pub(crate) public_url: Option<String>,
    /// A reverse proxy in front of the HTTP server does TLS
    #[arg(long)]
    pub(crate) behind_proxy: bool,
    /// Take the token from `?code=`, too, as old clients of Durable Functions send it; it then stands in the logs of
    /// every proxy on the way
    #[arg(long)]
    pub(crate) accept_code: bool,
    /// Run the pipelines in this folder, and in the folders in it, when HTTP clients ask for it
    #[arg(long, value_name = "DIR")]
    pub(crate) pipelines: Option<PathBuf>,
    /// How much of the machine runs may use.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Who is told of runs.
    #[command(flatten)]
    pub(crate) lineage: LineageArgs,
    /// Who may come in.
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// In which of the protocol's two forms entities' work items go out; the SDKs take both
    #[arg(long, value_enum, hide = true, default_value_t = EntityItems::Batch)]
    pub(crate) entity_items: EntityItems,
    /// Print where the server listens as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What protects a server. An address other than loopback needs TLS, and a token or mutual TLS.
#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    /// The server's certificate (PEM), followed by those that it rests on
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Let only clients in that have a certificate of this authority (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// A file with the token that every call must carry as `authorization: Bearer TOKEN`; the environment variable
    /// `SERIATIM_TOKEN` does the same
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// The two forms of entities' work items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EntityItems {
    /// As batches of operations.
    Batch,
    /// As history events.
    Events,
}
