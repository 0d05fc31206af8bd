//! Spans of requests for a collector of OpenTelemetry, where one is configured by the standard variables. A request's
//! span continues the client's trace, and what the request starts continues the span. This module must never make a
//! request wait for the collector, nor put a payload or a token into a span.

use std::collections::HashMap;

use axum::http::StatusCode;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use seriatim_durable::proto;

use crate::route::Route;
use crate::trace;

/// The name under which spans appear, unless `OTEL_SERVICE_NAME` has another.
const SERVICE: &str = "seriatim";

/// Why spans cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// Another protocol than the one that there is.
    #[error(
        "OTEL_EXPORTER_OTLP_PROTOCOL is \"{0}\", and spans are sent by grpc only: set it to grpc, and the endpoint to \
         the collector's port for that (4317, where nothing else was chosen)"
    )]
    Protocol(String),
    /// The exporter cannot be made, for example because the endpoint is no URL.
    #[error("spans cannot be sent to {endpoint}: {reason}")]
    Exporter {
        /// The endpoint.
        endpoint: String,
        /// Why not.
        reason: String,
    },
}

/// Sends the spans of requests to a collector. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Telemetry {
    /// As `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` says; `None` if neither is set, or if
    /// `OTEL_SDK_DISABLED` is `true` or `OTEL_TRACES_EXPORTER` is `none`. `variable` reads a variable of the
    /// environment; headers, timeouts, the service's name and sampling come from their own standard variables. Must be
    /// called within a Tokio runtime.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, TelemetryError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let first = |names: [&str; 2]| names.into_iter().find_map(set);
        let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let Some(endpoint) = first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]) else {
            return Ok(None);
        };
        if disabled || set("OTEL_TRACES_EXPORTER").as_deref() == Some("none") {
            return Ok(None);
        }
        match first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
            Some(other) if other != "grpc" => Err(TelemetryError::Protocol(other)),
            _ => Self::to(&endpoint).map(Some),
        }
    }

    /// Sends to the collector at `endpoint` (`http://host:4317`, or `https://`), by gRPC.
    pub fn to(endpoint: &str) -> Result<Self, TelemetryError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter
            .map_err(|error| TelemetryError::Exporter { endpoint: endpoint.to_owned(), reason: error.to_string() })?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        let tracer = provider.tracer(SERVICE);
        Ok(Self { provider, tracer })
    }

    /// Begins the span of a request.
    pub(crate) fn begin(&self, route: &Route, parent: Option<&proto::TraceContext>) -> RequestSpan {
        let mut carrier = HashMap::new();
        if let Some(parent) = parent {
            carrier.insert("traceparent".to_owned(), parent.trace_parent.clone());
            carrier.extend(parent.trace_state.clone().map(|state| ("tracestate".to_owned(), state)));
        }
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        let name = format!("{} {}", route.verb.name(), route.path);
        let attributes = [
            KeyValue::new("http.request.method", route.verb.name()),
            KeyValue::new("http.route", route.path),
            KeyValue::new("seriatim.operation", route.id),
        ];
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
        RequestSpan { span: self.tracer.build_with_context(builder, &parent) }
    }

    /// Sends what has not been sent.
    pub(crate) async fn flush(&self) {
        let provider = self.provider.clone();
        // It waits for the collector, on a thread where that is allowed.
        match tokio::task::spawn_blocking(move || provider.force_flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "some spans were not sent"),
            Err(error) => tracing::warn!(%error, "some spans were not sent"),
        }
    }
}

/// The span of a request. One that is dropped instead of ended is sent as well: the client went away.
pub(crate) struct RequestSpan {
    span: Span,
}

impl RequestSpan {
    /// What the request starts is a child of this.
    pub(crate) fn context(&self) -> Option<proto::TraceContext> {
        let mut carrier = HashMap::new();
        let context = Context::new().with_remote_span_context(self.span.span_context().clone());
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        trace::context(carrier.remove("traceparent")?, carrier.remove("tracestate").unwrap_or_default())
    }

    /// Ends it. Only what the server did wrong is an error of the server's span.
    pub(crate) fn end(mut self, status: StatusCode) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            self.span.set_status(Status::error(status.canonical_reason().unwrap_or_default()));
        }
        self.span.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<bool, TelemetryError> {
        let read = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Telemetry::from_environment(&read).map(|telemetry| telemetry.is_some())
    }

    #[tokio::test]
    async fn spans_are_sent_only_where_the_standard_variables_say_so() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
        assert_eq!(with(&[]), Ok(false));
        assert_eq!(with(&[endpoint]), Ok(true));
        assert_eq!(with(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), Ok(true));
        assert_eq!(with(&[endpoint, ("OTEL_SDK_DISABLED", "true")]), Ok(false));
        assert_eq!(with(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        let other = with(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]);
        assert_eq!(other, Err(TelemetryError::Protocol("http/protobuf".to_owned())));
        assert!(matches!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "::")]), Err(TelemetryError::Exporter { .. })));
    }
}
