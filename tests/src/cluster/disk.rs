//! Small disks: a filesystem in memory of a fixed size, mounted where a server keeps its data.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted filesystem. Dropping it unmounts it.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts a filesystem of so many bytes on a folder, which is made.
    ///
    /// # Errors
    /// What the system says, to who may not mount, for one.
    pub fn mount(at: &Path, bytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let size = format!("size={bytes}");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at))?;
        Ok(Self { at: at.to_owned() })
    }

    /// Fills it to the last byte with a file, which is left there.
    pub fn fill(&self) -> PathBuf {
        let path = self.at.join("other-data");
        let mut file = std::fs::File::create(&path).expect("makes a file");
        let mut zeros = std::io::repeat(0);
        let full = std::io::copy(&mut zeros, &mut file).expect_err("it is full at some time");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still works in it has been ended, or goes on in what nobody sees.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
