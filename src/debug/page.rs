//! Answers: JSON, pretty where that is asked for, and the page that lists all pages.

use super::registry::Content;
use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use std::{
    convert::Infallible,
    fmt::Write as _,
    io::{self, Write},
    mem,
};
use tokio::{sync::mpsc, task};
use tokio_stream::wrappers::ReceiverStream;

/// About how long the pieces are that a long answer is sent in, in bytes. A few wait for the client, and no more are made.
const PIECE: usize = 64 << 10;
const WAITING: usize = 2;

/// A JSON answer.
pub(super) fn json(content: Content, pretty: bool) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    if let Content::Tree(value) = content {
        let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
        return (kind, text).into_response();
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    // It takes as long as the client does.
    task::spawn_blocking(move || {
        let mut pieces = Pieces { held: Vec::new(), to: sender };
        // A client that has gone needs no more.
        let _ = content.write(&mut pieces, pretty).and_then(|()| pieces.flush());
    });
    (kind, Body::from_stream(ReceiverStream::new(receiver))).into_response()
}

/// The body of an answer, written a piece at a time.
struct Pieces {
    held: Vec<u8>,
    to: mpsc::Sender<Result<Bytes, Infallible>>,
}

impl Write for Pieces {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(text);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = mem::take(&mut self.held);
        self.to.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A plain refusal.
pub(super) fn refuse(status: StatusCode, text: impl Into<String>) -> Response {
    (status, text.into()).into_response()
}

/// The page that lists all pages.
pub(super) fn index(pages: &[(&str, &str)]) -> Response {
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>mainsheet debug</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
         td{padding:.3rem 1rem .3rem 0;border-bottom:1px solid #ddd;vertical-align:top}</style></head>\
         <body><h1>mainsheet debug</h1><table>",
    );
    for (path, help) in pages {
        // Writing to a text does not fail.
        let _ = write!(html, "<tr><td><a href=\"/{path}\">/{path}</a></td><td>{help}</td></tr>");
    }
    html.push_str("</table></body></html>\n");
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}
