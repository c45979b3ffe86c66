//! The workload of the demo and the tests: a server that says what reached it, a client that sends many
//! requests and tells what came back, and a relay between addresses.
//!
//! It is no part of mainsheet; it stands where a mesh has its applications.

mod relay;
mod resolve;
mod secure;
mod send;
mod serve;

use clap::Parser;
use std::{error::Error, net::SocketAddr};

/// What goes wrong is told to whoever started us.
type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
enum Command {
    /// Answers HTTP/1.1, HTTP/2, and lines of text over TCP.
    Serve(Serve),
    /// Reads requests from standard input, one JSON object a line, and answers each with one line.
    Send,
    /// Copies bytes between connections to one address and another; `unix:PATH` names a socket file.
    Relay {
        /// Where connections come in.
        from: String,
        /// Where they go.
        to: String,
    },
}

/// What a server answers as, and where.
#[derive(clap::Args)]
struct Serve {
    /// What it is called in its answers.
    #[arg(long, default_value = "echo")]
    name: String,
    /// The version in its answers.
    #[arg(long, default_value = "")]
    version: String,
    /// An address to answer HTTP on.
    #[arg(long)]
    http: Vec<SocketAddr>,
    /// An address to answer lines of text on.
    #[arg(long)]
    tcp: Vec<SocketAddr>,
    /// `ADDRESS=BASE`: an address to answer HTTP over TLS on, with the certificates of `BASE.pem` and the key of `BASE.key`.
    #[arg(long)]
    tls: Vec<String>,
    /// The same, of an address where the client may also speak without TLS: HTTP, or lines of text; who says nothing
    /// is greeted.
    #[arg(long)]
    any: Vec<String>,
    /// `name=ADDRESS/path`: what to ask, with a `Host` of that name, before each answer.
    #[arg(long)]
    calls: Vec<String>,
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match Command::parse() {
            Command::Serve(options) => serve::run(options).await,
            Command::Send => send::run().await,
            Command::Relay { from, to } => relay::run(&from, &to).await,
        }
    })
}
