//! Answers: JSON, pretty where that is asked for, and the page that lists all pages.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use std::fmt::Write as _;

/// A JSON answer.
pub(super) fn json(value: &Value, pretty: bool) -> Response {
    let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
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
