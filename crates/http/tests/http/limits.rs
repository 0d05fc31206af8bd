//! What a client cannot do to the server: send too much, nest too deeply, be too slow, or keep all connections.

use std::time::Duration;

use seriatim_http::{Limits, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, DURABLE, Served, to_end};

/// Short, so that a test need not wait long; nothing is said about how long it takes.
const SHORT: Duration = Duration::from_millis(200);

fn with(limits: Limits) -> Options {
    Options { limits, ..Options::default() }
}

#[tokio::test]
async fn a_body_is_as_large_as_allowed_and_no_larger_even_if_it_does_not_say_so() {
    let served = Served::with(with(Limits { body: 100, ..Limits::default() }), None).await;
    let path = format!("{DURABLE}/orchestrators/echo");
    let fits = format!("\"{}\"", "x".repeat(98));
    assert_eq!(served.post(&path, &fits).await.status, 202);
    assert_eq!(served.post(&path, &format!("{fits} ")).await.status, 413);
    // A body in chunks has no length that could be looked at first.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        if stream.write_all(b"10\r\n1111111111111111\r\n").await.is_err() {
            break;
        }
    }
    let answer = Answer::parse(&to_end(&mut stream).await);
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    served.stop().await;
}

#[tokio::test]
async fn json_that_is_nested_too_deeply_is_refused() {
    let served = Served::with(with(Limits { json_depth: 10, ..Limits::default() }), None).await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let path = format!("{DURABLE}/orchestrators/echo");
    assert_eq!(served.post(&path, &nested(10)).await.status, 202);
    for deep in [11, 100_000] {
        let answer = served.post(&path, &nested(deep)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "json_too_deep"));
    }
    served.stop().await;
}

#[tokio::test]
async fn heads_are_limited_in_size_and_in_number_of_headers() {
    let served = Served::start().await;
    let long = "x".repeat(100_000);
    for (path, headers) in [
        ("/healthz".to_owned(), vec![("x-long", long.as_str())]),
        (format!("/healthz?{long}"), vec![]),
        ("/healthz".to_owned(), vec![("x-many", "1"); 100]),
    ] {
        let answer = served.send("GET", &path, &headers, "").await;
        assert!(matches!(answer.status, 431 | 414), "{answer:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_is_slow_to_ask_or_idle_is_dropped() {
    let served = Served::with(with(Limits { head_time: SHORT, ..Limits::default() }), None).await;
    for begun in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: "] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        to_end(&mut stream).await;
    }
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = Answer::parse(&to_end(&mut stream).await);
    assert_eq!(answer.status, 200, "it is answered, and dropped when it asks nothing more");
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_is_slow_to_send_is_told_so_and_dropped() {
    let served = Served::with(with(Limits { body_time: SHORT, ..Limits::default() }), None).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!("POST {DURABLE}/orchestrators/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n[1");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = Answer::parse(&to_end(&mut stream).await);
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_dropped() {
    let served = Served::with(with(Limits { write_time: SHORT, ..Limits::default() }), None).await;
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    served.started("wait", "large", &large, "Running").await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let ask = format!("GET {DURABLE}/instances/large HTTP/1.1\r\nhost: localhost\r\n\r\n");
    // More than any socket buffers.
    for _ in 0..30 {
        let _ = stream.write_all(ask.as_bytes()).await;
    }
    // The connection of this question itself is the only one left.
    served.until("/metrics", |answer| answer.body.contains("\nseriatim_http_connections 1\n")).await;
    drop(stream);
    served.stop().await;
}

#[tokio::test]
async fn who_holds_all_connections_does_not_hold_them_for_long() {
    let limits = Limits { connections: 1, head_time: SHORT, ..Limits::default() };
    let served = Served::with(with(limits), None).await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    idle.write_all(b"GET ").await.unwrap();
    assert_eq!(served.get("/healthz").await.status, 200);
    let mut byte = [0];
    assert_eq!(idle.read(&mut byte).await.unwrap_or(0), 0, "the answer came once the idle one was dropped");
    served.stop().await;
}
