//! A connection to a service that fails on request: answers that are lost, broken off, late, or errors. It stands
//! between a client and a service that works, and decides for each request anew.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::http::Message;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it reaches the service, and the answer the client.
    None,
    /// The connection is closed before the service hears of it.
    Lost,
    /// The service does it, and its answer is lost.
    AnswerLost,
    /// It is answered with this status, and the service hears nothing.
    Status(u16),
    /// The service does it, and the connection is closed after so many bytes of the answer's body.
    Cut(usize),
    /// The service does it, and the answer comes so much later.
    Late(Duration),
}

/// A request on its way.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many came before it.
    pub number: u64,
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The connection: it listens on loopback until the process ends.
#[derive(Debug)]
pub struct Faulty {
    address: String,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    bodies: AtomicU64,
}

impl Faulty {
    /// Stands before the service at `upstream` (host and port), and asks `fault` what happens to each request.
    pub fn before(upstream: &str, fault: impl Fn(&Request) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (upstream, fault) = (upstream.to_owned(), Arc::new(fault));
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, fault, counts) = (upstream.clone(), fault.clone(), shared.clone());
                // What fails here is a connection that the client or the service has given up.
                std::thread::spawn(move || drop(serve(client, &upstream, &*fault, &counts)));
            }
        });
        Self { address, counts }
    }

    /// Where it listens: host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Relaxed)
    }

    /// How many bytes of answers' bodies were passed on to `GET` requests.
    pub fn bytes_read(&self) -> u64 {
        self.counts.bodies.load(Relaxed)
    }
}

fn serve(
    mut client: TcpStream,
    upstream: &str,
    fault: &dyn Fn(&Request) -> Fault,
    counts: &Counts,
) -> std::io::Result<()> {
    let Some(mut message) = Message::request(&mut BufReader::new(&client))? else { return Ok(()) };
    let number = counts.requests.fetch_add(1, Relaxed);
    let mut words = message.first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let request = Request { number, method, target, headers: message.headers.clone() };
    let fault = fault(&request);
    match fault {
        Fault::Lost => return Ok(()),
        Fault::Status(status) => {
            let head = format!("HTTP/1.1 {status} On Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return client.write_all(head.as_bytes());
        }
        _ => {}
    }
    let mut service = TcpStream::connect(upstream)?;
    // The signature holds no host, and the service does not look at it.
    message.headers.retain(|(name, _)| name != "expect");
    service.write_all(&message.bytes())?;
    let Some(mut answer) = Message::answer(&mut BufReader::new(service))? else { return Ok(()) };
    match fault {
        Fault::AnswerLost => return Ok(()),
        Fault::Cut(bytes) => answer.body.truncate(bytes),
        Fault::Late(pause) => std::thread::sleep(pause),
        _ => {}
    }
    if request.method == "GET" {
        counts.bodies.fetch_add(answer.body.len() as u64, Relaxed);
    }
    client.write_all(&answer.bytes())
}
