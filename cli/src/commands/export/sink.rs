//! Where an export goes.

use super::Summary;
use super::folder::{FolderSink, Trouble};
use crate::failure::Failure;
use crate::files;
use crate::output;
use crate::progress::Progress;
use crate::transfer::Format;
use crate::transfer::record::{self, FIELDS};
use annulet::ScanEntry;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What the user asked for, checked as far as it can be before anything is done.
pub(super) struct Destination {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// Whether what is there already may be replaced.
    pub(super) force: bool,
    /// Whether it may have to go on after a stop.
    pub(super) resumable: bool,
}

/// Where entries are written.
pub(super) enum Sink {
    Lines(Lines),
    Folder(FolderSink),
}

/// Lines of JSON or rows of CSV.
pub(super) struct Lines {
    /// Standard output, if it is none.
    file: Option<(File, PathBuf)>,
    is_csv: bool,
    /// Bytes written so far.
    length: u64,
    buffer: Vec<u8>,
}

impl Destination {
    pub(super) fn is_standard_output(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    /// Fails if something is in the way.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let path = self.path.as_path();
        if self.is_standard_output() {
            return Ok(());
        }
        match (path.metadata(), self.format) {
            (Ok(about), Format::Csv | Format::Jsonl) if about.is_dir() => {
                Err(Failure::usage(format!("{} is a folder", path.display()))
                    .advise("name a file, or choose --format folder"))
            }
            (Ok(about), Format::Folder) if !about.is_dir() => Err(Failure::usage(format!(
                "{} is not a folder",
                path.display()
            ))
            .advise("name a folder, or choose --format jsonl")),
            (Ok(_), _) if self.force => Ok(()),
            (Ok(_), Format::Csv | Format::Jsonl) => Err(files::already_there(path)),
            (Ok(_), Format::Folder) => {
                let entries = std::fs::read_dir(path);
                let first = entries
                    .map_err(|error| Failure::unreadable(path, &error))?
                    .next();
                match first {
                    None => Ok(()),
                    Some(_) => Err(Failure::usage(format!(
                        "the folder {} is not empty",
                        path.display()
                    ))
                    .advise("choose another folder, or write into it with --force")),
                }
            }
            (Err(_), _) => Ok(()),
        }
    }
}

impl Sink {
    /// Opens it. `length`: that of a file that is gone on with; what is beyond it goes.
    pub(super) fn open(destination: &Destination, length: Option<u64>) -> Result<Self, Failure> {
        let path = destination.path.as_path();
        if destination.format == Format::Folder {
            let replace = destination.force || length.is_some();
            let sink = FolderSink::open(path, replace, destination.resumable)?;
            return Ok(Self::Folder(sink));
        }
        let file = match length {
            _ if destination.is_standard_output() => None,
            Some(length) => Some(reopen(path, length)?),
            None => Some(create(path, destination.force)?),
        };
        let mut lines = Lines {
            file: file.map(|file| (file, path.to_owned())),
            is_csv: destination.format == Format::Csv,
            length: length.unwrap_or(0),
            buffer: Vec::new(),
        };
        if lines.is_csv && lines.length == 0 {
            lines.buffer = [FIELDS.join(",").as_bytes(), b"\n"].concat();
            lines.flush()?;
        }
        Ok(Self::Lines(lines))
    }

    /// Writes a page.
    pub(super) fn write(
        &mut self,
        entries: &[ScanEntry],
        summary: &mut Summary,
        progress: &Progress,
    ) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => {
                lines.write(entries)?;
                entries.iter().for_each(|entry| summary.written(entry));
            }
            Self::Folder(folder) => {
                for entry in entries {
                    match folder.write(entry) {
                        Ok(()) => summary.written(entry),
                        Err(Trouble::LeftOut(why)) => summary.left_out(&entry.key, &why, progress),
                        Err(Trouble::Failed(error)) => {
                            let path = folder.path().join(output::brief(&entry.key));
                            return Err(Failure::unwritable(&path, &error));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until everything that was written is on disk.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        match self {
            Self::Lines(Lines { file: None, .. }) => Ok(()),
            Self::Lines(Lines {
                file: Some((file, path)),
                ..
            }) => match file.sync_all() {
                // What is no file on a disk, like a pipe, has nothing to wait for.
                Err(error) if error.kind() != ErrorKind::InvalidInput => {
                    Err(Failure::unwritable(path, &error))
                }
                Ok(()) | Err(_) => Ok(()),
            },
            Self::Folder(folder) => folder
                .sync()
                .map_err(|error| Failure::unwritable(folder.path(), &error)),
        }
    }

    /// Bytes of the file so far.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Lines(lines) => lines.length,
            Self::Folder(_) => 0,
        }
    }
}

impl Lines {
    fn write(&mut self, entries: &[ScanEntry]) -> Result<(), Failure> {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("cannot write an entry as text: {error}"))
        };
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = if self.is_csv {
            let mut writer = csv::Writer::from_writer(buffer);
            for entry in entries {
                record::write_csv(entry, &mut writer).map_err(|error| broken(&error))?;
            }
            writer.into_inner().map_err(|error| broken(&error))?
        } else {
            let mut buffer = buffer;
            for entry in entries {
                record::write_json(entry, &mut buffer).map_err(|error| broken(&error))?;
            }
            buffer
        };
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.file {
            None => output::bytes(&self.buffer)?,
            Some((file, path)) => file
                .write_all(&self.buffer)
                .map_err(|error| Failure::unwritable(path, &error))?,
        }
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        // One page of long values need not stay in memory until the end.
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }
}

fn create(path: &Path, force: bool) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    options.open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => files::already_there(path),
        _ => Failure::unwritable(path, &error),
    })
}

fn reopen(path: &Path, length: u64) -> Result<File, Failure> {
    let unwritable = |error| Failure::unwritable(path, &error);
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(changed(path)),
        opened => opened.map_err(unwritable)?,
    };
    if file.metadata().map_err(unwritable)?.len() < length {
        return Err(changed(path));
    }
    file.set_len(length).map_err(unwritable)?;
    file.seek(SeekFrom::End(0)).map_err(unwritable)?;
    Ok(file)
}

fn changed(path: &Path) -> Failure {
    Failure::usage(format!(
        "{} is not as the export that was stopped left it",
        path.display()
    ))
    .advise("remove it and the state to start over")
}

const BUFFER_BYTES_KEPT: usize = 16 << 20;
