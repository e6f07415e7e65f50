//! As much of an HTTP server as a test's answers need.

use std::io::{Read, Write};

const END_OF_HEADERS: &[u8] = b"\r\n\r\n";

/// Reads one request and answers it with a status and a body; gives what was asked, if a whole request came.
pub(crate) fn one(
    stream: &mut (impl Read + Write),
    answer: impl FnOnce(&str) -> (&'static str, &'static str),
) -> Option<String> {
    let mut asked = Vec::new();
    while !asked.ends_with(END_OF_HEADERS) {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        asked.push(byte[0]);
    }
    let mut body = vec![0; content_length(&String::from_utf8_lossy(&asked))];
    stream.read_exact(&mut body).ok()?;
    asked.extend(body);
    let asked = String::from_utf8(asked).expect("a request");
    let (status, body) = answer(&asked);
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .ok()?;
    stream.flush().ok()?;
    Some(asked)
}

fn content_length(headers: &str) -> usize {
    let named = headers
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
    named.map_or(0, |value| value.trim().parse().expect("a length"))
}
