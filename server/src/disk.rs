//! Room on disk: when a server takes no more, and how it comes up although there is none left.
//!
//! Before each batch of writes the filesystem is asked how much room there is. Below the reserve
//! nothing new is taken, while deletes, repairs and what moves data out go on: the reserve is what
//! the store needs to write out what it has taken already, and to compact. Should the disk be full
//! to the last byte all the same, by somebody else's doing, a file of ballast is given up at the
//! start, so that the store can be opened and serve reads and deletes.

use annulet_protocol::message::DiskState;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The file that is given up where the disk is full.
const BALLAST: &str = "ballast";

/// Bounds on the use of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Room below which nothing new is taken, in bytes.
    pub(crate) reserve_bytes: u64,
    /// Part of the disk in use from which the server says that it is filling up, in percent.
    pub(crate) soft_percent: u32,
    /// Bytes of the ballast; 0: none.
    pub(crate) ballast_bytes: u64,
}

/// The disk under a data folder.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    bounds: Bounds,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that may still be written.
    pub(crate) free: u64,
    /// Bytes of the whole filesystem.
    pub(crate) total: u64,
}

impl Disk {
    pub(crate) fn new(folder: &Path, bounds: Bounds) -> Self {
        Self {
            folder: folder.to_owned(),
            bounds,
        }
    }

    /// Before the store is opened: makes room for that where there is none.
    ///
    /// # Errors
    /// If the filesystem cannot be asked, or does not give the ballast back.
    pub(crate) fn make_room(&self) -> io::Result<()> {
        let ballast = self.folder.join(BALLAST);
        if self.room()?.free < self.bounds.ballast_bytes && ballast.exists() {
            tracing::error!("the disk is full; the ballast is given up so that the store can open");
            fs::remove_file(ballast)?;
        }
        Ok(())
    }

    /// After the store was opened: lays the ballast by, where there is room for it.
    pub(crate) fn take_ballast(&self) {
        let Bounds {
            reserve_bytes,
            ballast_bytes,
            ..
        } = self.bounds;
        let ballast = self.folder.join(BALLAST);
        let room = self.room().map_or(0, |room| room.free);
        if ballast_bytes == 0
            || ballast.exists()
            || room < reserve_bytes.saturating_add(ballast_bytes)
        {
            return;
        }
        let laid = File::create(&ballast).and_then(|file| {
            fallocate(&file, FallocateFlags::empty(), 0, ballast_bytes)?;
            Ok(())
        });
        if let Err(error) = laid {
            tracing::warn!(%error, "no ballast: a full disk may keep the store shut");
            // It is of no use half.
            let _ = fs::remove_file(ballast);
        }
    }

    /// How much room there is now.
    ///
    /// # Errors
    /// If the filesystem cannot be asked.
    pub(crate) fn room(&self) -> io::Result<Room> {
        let found = statvfs(&self.folder)?;
        Ok(Room {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// What the room means. A filesystem that cannot be asked is not held to be full: its writes
    /// will tell.
    pub(crate) fn state(&self) -> DiskState {
        self.room().map_or(DiskState::Ok, |room| self.judge(room))
    }

    fn judge(&self, room: Room) -> DiskState {
        let Bounds {
            reserve_bytes,
            soft_percent,
            ..
        } = self.bounds;
        let used = room.total.saturating_sub(room.free);
        let soft = u128::from(used) * 100 >= u128::from(room.total) * u128::from(soft_percent);
        match () {
            () if room.free < reserve_bytes => DiskState::Full,
            () if soft => DiskState::Filling,
            () => DiskState::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(folder: &Path) -> Disk {
        let bounds = Bounds {
            reserve_bytes: 100,
            soft_percent: 80,
            ballast_bytes: 1 << 20,
        };
        Disk::new(folder, bounds)
    }

    #[test]
    fn little_room_means_filling_and_less_means_full() {
        let disk = disk(Path::new("/"));
        for (free, expected) in [
            (1_000, DiskState::Ok),
            (201, DiskState::Ok),
            (200, DiskState::Filling),
            (100, DiskState::Filling),
            (99, DiskState::Full),
            (0, DiskState::Full),
        ] {
            let room = Room { free, total: 1_000 };
            assert_eq!(disk.judge(room), expected, "{free}");
        }
    }

    #[test]
    fn ballast_is_laid_by_once_and_kept_while_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let ballast = folder.path().join(BALLAST);
        disk.take_ballast();
        assert_eq!(fs::metadata(&ballast).unwrap().len(), 1 << 20);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&ballast).unwrap());
        assert!(blocks * 512 >= 1 << 20, "it takes its room at once");
        disk.take_ballast();
        disk.make_room().unwrap();
        assert!(ballast.exists());
    }

    #[test]
    fn ballast_is_given_up_where_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = disk(folder.path());
        disk.take_ballast();
        disk.bounds.ballast_bytes = u64::MAX;
        disk.make_room().unwrap();
        assert!(!folder.path().join(BALLAST).exists());
        disk.take_ballast();
        assert!(
            !folder.path().join(BALLAST).exists(),
            "there is no room for it"
        );
    }
}
