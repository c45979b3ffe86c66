//! Copies bytes between connections. A socket file is seen from every network namespace, so two relays
//! make a way from one namespace to another that needs no device between them.

use crate::Failure;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// Relays until it is killed.
pub(crate) async fn run(from: &str, to: &str) -> Result<(), Failure> {
    match from.strip_prefix("unix:") {
        Some(path) => {
            let listener = UnixListener::bind(path)?;
            loop {
                spawn(listener.accept().await?.0, to);
            }
        }
        None => {
            let listener = TcpListener::bind(from).await?;
            loop {
                spawn(listener.accept().await?.0, to);
            }
        }
    }
}

/// A broken connection ends by itself alone.
fn spawn(mut near: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, to: &str) {
    let to = to.to_owned();
    tokio::spawn(async move {
        match to.strip_prefix("unix:") {
            Some(path) => copy_bidirectional(&mut near, &mut UnixStream::connect(path).await?).await,
            None => copy_bidirectional(&mut near, &mut TcpStream::connect(&to).await?).await,
        }
    });
}
