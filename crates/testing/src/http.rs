//! As much of HTTP/1.1 as tests need: one message over a stream, its body counted or up to the end.

use std::io::{BufRead, BufReader, Read};

/// A request or an answer: its first line, its header lines with the empty one at the end, its body.
pub(crate) struct Message {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Reads a request: its body is as long as `content-length` says.
    pub(crate) fn request(stream: &mut BufReader<impl Read>) -> std::io::Result<Option<Self>> {
        let Some(mut message) = Self::head(stream)? else { return Ok(None) };
        let length = message.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        message.body = vec![0; length];
        stream.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    /// Reads an answer whose sender closes the connection behind it. A body in chunks stays in chunks.
    pub(crate) fn answer(stream: &mut BufReader<impl Read>) -> std::io::Result<Option<Self>> {
        let Some(mut message) = Self::head(stream)? else { return Ok(None) };
        stream.read_to_end(&mut message.body)?;
        Ok(Some(message))
    }

    fn head(stream: &mut BufReader<impl Read>) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let first = line.trim_end().to_owned();
        let mut headers = Vec::new();
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Self { first, headers, body: Vec::new() }))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// As it goes over a connection that is closed behind it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "connection" && name != "keep-alive") {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("connection: close\r\n\r\n");
        [text.as_bytes(), &self.body].concat()
    }
}
