//! The control plane that is measured: a mainsheet of this tree, or any other by its address.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    /// Its process, where it is known.
    pub(crate) pid: Option<u32>,
    /// `HOST:PORT` of its xDS.
    pub(crate) address: String,
    /// How long it took to be ready, where it was started here.
    pub(crate) ready_after: Option<Duration>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server {
    /// One that runs already.
    pub(crate) fn elsewhere(address: String, pid: Option<u32>) -> Self {
        Self { child: None, pid, address, ready_after: None }
    }

    /// Starts the mainsheet that was built with this for the objects of a directory, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or is not ready after two minutes.
    pub(crate) fn start(config: &Path, log: &Path) -> io::Result<Self> {
        let [grpc, http, monitoring] = [free()?, free()?, free()?];
        let program = env::var_os("MAINSHEET").unwrap_or_else(|| env!("CARGO_BIN_EXE_mainsheet").into());
        let mut command = Command::new(program);
        command.arg("discovery").arg("--config-dir").arg(config).args(["--grpc-addr", &grpc.to_string()]);
        command.args(["--http-addr", &http.to_string(), "--monitoring-addr", &monitoring.to_string()]);
        let log = fs::File::create(log)?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server =
            Self { pid: Some(child.id()), child: Some(child), address: grpc.to_string(), ready_after: None };
        while !is_ready(http) {
            if started.elapsed() > Duration::from_secs(120) {
                return Err(io::Error::other("mainsheet is not ready after two minutes"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        server.ready_after = Some(started.elapsed());
        Ok(server)
    }
}

fn free() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split_whitespace().nth(1) == Some("200"))
}
