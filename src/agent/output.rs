//! The workload's certificate as files, for those who read it there (`OUTPUT_CERTS`).

use super::Newest;
use anyhow::{Context as _, Result};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Writes every new certificate to a directory.
pub(super) async fn keep(dir: PathBuf, mut newest: Newest) -> Result<()> {
    loop {
        if let Some(certified) = newest.borrow_and_update().clone() {
            let svid = &certified.svid;
            let files = [
                ("key.pem", &svid.key, 0o600),
                ("cert-chain.pem", &svid.chain, 0o644),
                ("root-cert.pem", &svid.roots, 0o644),
            ];
            for (name, text, mode) in files {
                let path = dir.join(name);
                replace(&path, text, mode).with_context(|| format!("--output-certs {}", path.display()))?;
            }
        }
        if newest.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Writes a file at once and whole.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&draft, path)
}
