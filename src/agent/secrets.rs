//! The secrets that Envoy gets from the agent: the workload's certificate and the mesh's roots, and files by their names.

use super::{
    Newest,
    files::{self, INTERVAL},
};
use crate::{
    ca::{self, Svid},
    translate::Resource,
    xds::{Asked, Local},
};
use anyhow::Result;
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Notify, watch},
    time,
};
use tokio_stream::wrappers::UnixListenerStream;

/// Takes the socket of a path; nothing where somebody serves on it.
pub(super) async fn bind(path: &Path) -> io::Result<Option<UnixListener>> {
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Ok(None);
        }
        // One that was killed has left it.
        fs::remove_file(path)?;
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let listener = UnixListener::bind(path)?;
    // Envoy may run as another user of the pod; whoever reaches the directory is of the pod.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(Some(listener))
}

/// Serves on a socket.
pub(super) async fn serve(listener: UnixListener, secrets: Local) -> Result<()> {
    let server = tonic::transport::Server::builder().add_routes(secrets.routes());
    Ok(server.serve_with_incoming(UnixListenerStream::new(listener)).await?)
}

/// The newest secrets, whom to tell what is asked for, and what keeps them; beside the roots stands what `crl` says was
/// revoked, where there is such a file.
pub(super) fn secrets(
    mut newest: Newest,
    crl: Option<PathBuf>,
) -> (watch::Receiver<Arc<[Resource]>>, Asked, impl Future<Output = Result<()>> + Send) {
    let (sender, receiver) = watch::channel(Arc::default());
    let names: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let more = Arc::new(Notify::new());
    let asked: Asked = {
        let (names, more) = (names.clone(), more.clone());
        Arc::new(move |asked| {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            let before = names.len();
            names.extend(asked.iter().filter(|name| name.starts_with("file-")).cloned());
            if names.len() > before {
                more.notify_one();
            }
        })
    };
    let keeping = async move {
        let mut crls = String::new();
        loop {
            match crl.as_ref().map(fs::read_to_string) {
                // What cannot be read leaves what was there: Envoy would refuse it, and nobody is let in again by accident.
                Some(Ok(text)) if ca::revocation_lists(&text).is_ok() => crls = text,
                _ => {}
            }
            let files: Vec<String> = names.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
            let certified = newest.borrow_and_update().clone();
            let own = certified.map(|certified| Svid { crls: crls.clone(), ..certified.svid.clone() }.resources());
            let all: Vec<Resource> =
                own.into_iter().flatten().chain(files.iter().filter_map(|name| files::named(name))).collect();
            sender.send_if_modified(|held: &mut Arc<[Resource]>| {
                // Files that cannot be read leave what was there.
                let gone =
                    held.iter().filter(|old| old.name.starts_with("file-") && !all.iter().any(|r| r.name == old.name));
                let next: Vec<Resource> = all.iter().chain(gone).cloned().collect();
                let changed = **held != *next;
                if changed {
                    *held = next.into();
                }
                changed
            });
            let look_again = async {
                match files.is_empty() && crl.is_none() {
                    true => std::future::pending().await,
                    false => time::sleep(INTERVAL).await,
                }
            };
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return Ok(()) },
                () = more.notified() => {}
                () = look_again => {}
            }
        }
    };
    (receiver, asked, keeping)
}
