//! An authority in a directory, laid out as Kubernetes lays out a mounted Secret: the files are links into a
//! directory behind the link `..data`, which is swapped as a whole. A directory of plain files is read too.

use super::{Files, Storage};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

const DATA: &str = "..data";
/// The largest file that is read, in bytes.
const MAX: u64 = 1 << 20;

/// A directory that holds an authority.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at this path, which is made when something is first kept in it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that the files are in now.
    fn current(&self) -> PathBuf {
        // The link is read once, so that all files are of the same moment.
        match fs::read_link(self.path.join(DATA)) {
            Ok(target) => self.path.join(target),
            Err(_) => self.path.clone(),
        }
    }
}

impl Storage for Directory {
    fn load(&self) -> io::Result<Files> {
        let mut files = Files::new();
        let entries = match fs::read_dir(self.current()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = fs::metadata(entry.path())?;
            if name.starts_with('.') || !metadata.is_file() || metadata.len() > MAX {
                continue;
            }
            // What is not text is none of ours.
            if let Ok(text) = String::from_utf8(fs::read(entry.path())?) {
                files.insert(name, text);
            }
        }
        Ok(files)
    }

    fn save(&self, files: &Files) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let mut number = 0u64;
        let name = loop {
            let name = format!("..{number}");
            match fs::DirBuilder::new().mode(0o700).create(self.path.join(&name)) {
                Ok(()) => break name,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(e),
            }
        };
        let dir = self.path.join(&name);
        for (file, text) in files {
            let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(file))?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
        }
        File::open(&dir)?.sync_all()?;
        let next = self.path.join(format!("{name}.link"));
        symlink(&name, &next)?;
        fs::rename(&next, self.path.join(DATA))?;
        File::open(&self.path)?.sync_all()?;
        self.link(files)?;
        self.clear(&name)
    }
}

impl Directory {
    /// Removes what is replaced now, and what saves have left behind that were cut short: there are keys in it.
    fn clear(&self, current: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix("..").filter(|_| name != current && name != DATA) else { continue };
            match rest.strip_suffix(".link") {
                Some(_) => drop(fs::remove_file(entry.path())),
                None if rest.bytes().all(|b| b.is_ascii_digit()) => drop(fs::remove_dir_all(entry.path())),
                None => {}
            }
        }
        Ok(())
    }

    /// Links of the files' own names, for people and programs that look for these.
    fn link(&self, files: &Files) -> io::Result<()> {
        for file in files.keys() {
            let at = self.path.join(file);
            if fs::read_link(&at).is_ok_and(|to| to == Path::new(DATA).join(file)) {
                continue;
            }
            let next = self.path.join(format!("..{file}.link"));
            let _ = fs::remove_file(&next);
            symlink(Path::new(DATA).join(file), &next)?;
            fs::rename(&next, &at)?;
        }
        Ok(())
    }
}
