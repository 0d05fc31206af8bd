//! One connection to a hub: it adds the headers that the protocol wants, gets tokens, sends calls again where that is
//! safe, and says in our words what went wrong. This module must never send a call again that may have been done and
//! would be done twice.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use seriatim_durable::hub::{HubError, HubResult};
use seriatim_wire::service::task_hub_sidecar_service_client::TaskHubSidecarServiceClient;
use tokio::time::{Instant, sleep};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Request, Response, Status};

use crate::address::Address;
use crate::credential::{CredentialError, TokenCache};
use crate::secret::Secret;

/// The first pause between attempts is at most this long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// They double, until they are at most this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between the attempts of one call. Half of each is random, so that many workers that lost the same hub do not
/// come back in step.
fn pauses() -> ExponentialBackoff {
    // The library adds up to as much again.
    let halves = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE / 2).with_max_delay(LONGEST_PAUSE / 2);
    halves.without_max_times().with_jitter().build()
}

/// The generated client.
pub(crate) type Stub = TaskHubSidecarServiceClient<Channel>;

/// Bounds; see the builder for what each one does.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) patience: Duration,
    pub(crate) answer_patience: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) silence: Duration,
    pub(crate) sent_bytes: usize,
    pub(crate) received_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            answer_patience: Duration::from_mins(5),
            call_timeout: Duration::from_mins(1),
            silence: Duration::from_mins(2),
            sent_bytes: 4_089_446,
            received_bytes: 128 << 20,
        }
    }
}

/// What every call carries.
#[derive(Debug)]
pub(crate) struct Headers {
    pub(crate) task_hub: Option<MetadataValue<Ascii>>,
    pub(crate) worker: MetadataValue<Ascii>,
    pub(crate) agent: MetadataValue<Ascii>,
}

/// When a call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Whenever the hub was out of reach: doing it twice is doing it once.
    Always,
    /// Only if it had not been sent.
    IfUnsent,
}

/// One kind of call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// The protocol's name for it.
    pub(crate) name: &'static str,
    pub(crate) again: Again,
    /// For how long it is sent again, counted from the first failure in a row.
    pub(crate) patience: Duration,
    /// How long one attempt may take; `None`: as long as it does.
    pub(crate) timeout: Option<Duration>,
}

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// There was no token to send with it.
    Token(CredentialError),
    /// The hub, or the way to it, said so.
    Status(Box<Status>),
}

/// A connection that is opened when it is needed, and again when it is lost.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: String,
    stub: Stub,
    headers: Headers,
    tokens: Option<TokenCache>,
    pub(crate) limits: Limits,
}

impl Connection {
    pub(crate) fn new(
        address: &Address,
        channel: Channel,
        headers: Headers,
        tokens: Option<TokenCache>,
        limits: Limits,
    ) -> Self {
        // What is too large is found out by whoever makes it, and told in better words than the encoder has.
        let stub =
            Stub::new(channel).max_decoding_message_size(limits.received_bytes).max_encoding_message_size(usize::MAX);
        Self { endpoint: address.to_string(), stub, headers, tokens, limits }
    }

    /// A call that is sent again whenever the hub was out of reach.
    pub(crate) fn idempotent(&self, name: &'static str) -> Call {
        let Limits { patience, call_timeout, .. } = self.limits;
        Call { name, again: Again::Always, patience, timeout: Some(call_timeout) }
    }

    /// A call that is sent again only if it had not been sent.
    pub(crate) fn once(&self, name: &'static str) -> Call {
        Call { again: Again::IfUnsent, ..self.idempotent(name) }
    }

    /// Makes a call.
    pub(crate) async fn call<Q, R, F>(
        &self,
        call: Call,
        message: Q,
        send: impl Fn(Stub, Request<Q>) -> F,
    ) -> HubResult<R>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut pauses = pauses();
        let mut failing_since = None;
        let mut renewed = false;
        loop {
            let began = Instant::now();
            let failed = match self.attempt(call.timeout, message.clone(), &send).await {
                Ok((response, _)) => return Ok(response),
                Err((failed, token)) => {
                    // The hub did nothing with a call that it did not know the sender of.
                    if !renewed && self.refuse_token(&failed, token.as_ref()) {
                        renewed = true;
                        continue;
                    }
                    failed
                }
            };
            // A wait that lasted was no failure in a row with what came before it.
            let since = *failing_since.insert(match failing_since {
                Some(since) if began.elapsed() < call.patience.max(Duration::from_secs(1)) => since,
                _ => Instant::now(),
            });
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            if !failed.may_be_sent_again(call.again) || since.elapsed() + pause > call.patience {
                return Err(self.explain(call.name, &failed));
            }
            tracing::debug!(call = call.name, hub = self.endpoint, "the call failed and will be sent again");
            sleep(pause).await;
        }
    }

    /// One attempt: the response, and the token that went with it.
    pub(crate) async fn attempt<Q, R, F>(
        &self,
        timeout: Option<Duration>,
        message: Q,
        send: &impl Fn(Stub, Request<Q>) -> F,
    ) -> Result<(R, Option<Secret>), (Failed, Option<Secret>)>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let token = match &self.tokens {
            Some(tokens) => Some(tokens.token().await.map_err(|error| (Failed::Token(error), None))?),
            None => None,
        };
        let request = self.request(message, timeout, token.as_ref()).map_err(|failed| (failed, None))?;
        match send(self.stub.clone(), request).await {
            Ok(response) => Ok((response.into_inner(), token)),
            Err(status) => Err((Failed::Status(Box::new(status)), token)),
        }
    }

    /// Forgets a token that the hub did not take; whether there is a point in asking for another.
    pub(crate) fn refuse_token(&self, failed: &Failed, token: Option<&Secret>) -> bool {
        match (failed, &self.tokens, token) {
            (Failed::Status(status), Some(tokens), Some(token)) if status.code() == Code::Unauthenticated => {
                tokens.refused(token);
                true
            }
            _ => false,
        }
    }

    fn request<Q>(&self, message: Q, timeout: Option<Duration>, token: Option<&Secret>) -> Result<Request<Q>, Failed> {
        let mut request = Request::new(message);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let headers = request.metadata_mut();
        if let Some(hub) = &self.headers.task_hub {
            headers.insert("taskhub", hub.clone());
        }
        headers.insert("workerid", self.headers.worker.clone());
        headers.insert("x-user-agent", self.headers.agent.clone());
        if let Some(token) = token {
            let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose()).parse().map_err(|_| {
                let text = "the token has characters that a header cannot carry";
                Failed::Token(CredentialError::NotConfigured(text.to_owned()))
            })?;
            value.set_sensitive(true); // kept out of the compression table and of debug output
            headers.insert("authorization", value);
        }
        Ok(request)
    }

    /// What a failure means to whoever made the call.
    pub(crate) fn explain(&self, call: &str, failed: &Failed) -> HubError {
        let hub = &self.endpoint;
        let status = match failed {
            Failed::Token(error @ CredentialError::Unreachable(_)) => {
                return HubError::Unavailable(format!("no token for {hub}: {error}"));
            }
            Failed::Token(error) => return HubError::Unauthorized(format!("no token for {hub}: {error}")),
            Failed::Status(status) => status,
        };
        if failed.is_unsent() {
            return HubError::Unavailable(format!("no connection to {hub}: {}", crate::in_full(&**status)));
        }
        let said = if status.message().is_empty() { status.code().description() } else { status.message() };
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange => HubError::InvalidArgument(said.to_owned()),
            Code::NotFound => HubError::NotFound(said.to_owned()),
            Code::AlreadyExists => HubError::AlreadyExists(said.to_owned()),
            Code::FailedPrecondition | Code::Aborted => HubError::FailedPrecondition(said.to_owned()),
            Code::Unimplemented => HubError::Unimplemented(format!("{call} at {hub}: {said}")),
            Code::Unauthenticated | Code::PermissionDenied => HubError::Unauthorized(format!(
                "{hub} refused {call}: {said}; check the token, or the identity and its rights on the task hub"
            )),
            code => HubError::Unavailable(format!("{call} at {hub}: {code:?}: {said}")),
        }
    }
}

impl Failed {
    /// Whether the call never left this machine.
    fn is_unsent(&self) -> bool {
        let Self::Status(status) = self else { return true };
        let mut cause = std::error::Error::source(&**status);
        while let Some(error) = cause {
            if error.is::<ConnectError>() {
                return true;
            }
            cause = error.source();
        }
        false
    }

    fn may_be_sent_again(&self, again: Again) -> bool {
        match self {
            Self::Token(error) => matches!(error, CredentialError::Unreachable(_)),
            Self::Status(_) if self.is_unsent() => true,
            Self::Status(status) => again == Again::Always && is_transient(status.code()),
        }
    }
}

/// Whether a later attempt may go better: the connection was lost, or the hub is busy or ending.
fn is_transient(code: Code) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown};
    matches!(code, Unavailable | Unknown | DeadlineExceeded | Internal | Cancelled | ResourceExhausted)
}
