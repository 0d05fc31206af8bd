//! A Durable Task hub: state machine without I/O, SQLite store, timers, dispatch.
