//! The task hub for others: [`hubs`] keeps several embedded hubs by name, [`grpc`] puts them behind the Durable Task
//! protocol, so that the official SDKs work with them unchanged. This crate must never decide what a call means: the
//! hub does.

pub mod grpc;
pub mod hubs;
