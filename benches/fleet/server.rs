//! The control plane that is measured: a mainsheet of this tree, or any other by its address.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
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
    start: Option<Start>,
}

/// How one was started here.
#[derive(Clone, Debug)]
struct Start {
    config: PathBuf,
    log: PathBuf,
    /// For gRPC, HTTP and monitoring.
    addresses: [SocketAddr; 3],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    /// One that runs already.
    pub(crate) fn elsewhere(address: String, pid: Option<u32>) -> Self {
        Self { child: None, pid, address, ready_after: None, start: None }
    }

    /// Starts the mainsheet that was built with this for the objects of a directory, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or is not ready after two minutes.
    pub(crate) fn start(config: &Path, log: &Path) -> io::Result<Self> {
        let start = Start { config: config.into(), log: log.into(), addresses: [free()?, free()?, free()?] };
        let mut server = Self::elsewhere(start.addresses[0].to_string(), None);
        server.run(start)?;
        Ok(server)
    }

    /// Kills the one that was started here, and starts it again where it was.
    ///
    /// # Errors
    ///
    /// When it was not started here, or cannot be started again.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        let start =
            self.start.clone().ok_or_else(|| io::Error::other("only what was started here is started again"))?;
        self.end();
        self.run(start)
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn run(&mut self, start: Start) -> io::Result<()> {
        let [grpc, http, monitoring] = start.addresses;
        let program = env::var_os("MAINSHEET").unwrap_or_else(|| env!("CARGO_BIN_EXE_mainsheet").into());
        let mut command = Command::new(program);
        command.arg("discovery").arg("--config-dir").arg(&start.config).args(["--grpc-addr", &grpc.to_string()]);
        command.args(["--http-addr", &http.to_string(), "--monitoring-addr", &monitoring.to_string()]);
        let log = fs::File::create(&start.log)?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        (self.pid, self.child, self.start) = (Some(child.id()), Some(child), Some(start));
        while !is_ready(http) {
            if started.elapsed() > Duration::from_secs(120) {
                return Err(io::Error::other("mainsheet is not ready after two minutes"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ready_after = Some(started.elapsed());
        Ok(())
    }

    /// Starts this program as a server that sends what was recorded and does nothing else.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn bare(recorded: &Path) -> io::Result<Self> {
        let address = free()?;
        let mut command = Command::new(env::current_exe()?);
        command.arg("--bare").arg(recorded).args(["--addr", &address.to_string()]);
        let child = command.stdin(Stdio::null()).spawn()?;
        let mut server = Self::elsewhere(address.to_string(), Some(child.id()));
        server.child = Some(child);
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other("the bare server does not listen"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
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
