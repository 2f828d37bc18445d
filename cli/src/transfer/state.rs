//! How far an import or export is, in a small file, so that one that was stopped can go on.

use crate::clock;
use crate::connect::Session;
use crate::failure::Failure;
use crate::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file that remembers it.
pub(crate) struct StateFile {
    path: PathBuf,
    of: Map<String, Value>,
    /// When it is to be written next.
    due: Instant,
    /// Held so that no other process works from the same state.
    lock: Option<File>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content<P> {
    annulet_state: u32,
    of: Map<String, Value>,
    done: P,
}

impl StateFile {
    /// The same as [`StateFile::open`], for nobody else until it is dropped: two at once would
    /// each overwrite what the other one remembers, and what it has exported.
    pub(crate) fn open_alone<P: DeserializeOwned>(
        path: &Path,
        of: Map<String, Value>,
    ) -> Result<(Self, Option<P>), Failure> {
        let lock = lock(path)?;
        let (state, done) = Self::open(path, of)?;
        let lock = Some(lock);
        Ok((Self { lock, ..state }, done))
    }

    /// The state at a path, and what it remembers if it is there. `of` is what it belongs to: names
    /// that mean something to the user, and their values.
    pub(crate) fn open<P: DeserializeOwned>(
        path: &Path,
        of: Map<String, Value>,
    ) -> Result<(Self, Option<P>), Failure> {
        let done = match path.symlink_metadata() {
            Ok(_) => Some(read(path, &of)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::unreadable(path, &error)),
        };
        let state = Self {
            path: path.to_owned(),
            of,
            due: clock::now(),
            lock: None,
        };
        Ok((state, done))
    }

    /// Whether so much time has passed that it should be written again.
    pub(crate) fn is_due(&self) -> bool {
        clock::now() >= self.due
    }

    /// Remembers where it begins, at once: that a state cannot be written should be known before
    /// the work is done. So is its first step.
    pub(crate) fn begin(&self, done: &impl Serialize) -> Result<(), Failure> {
        self.write(done)
    }

    /// Remembers how far it is. Whoever stops this in the middle finds the old file or the new one.
    /// `began` is when getting ready for it did: where that takes long, it is done less often.
    pub(crate) fn save(&mut self, done: &impl Serialize, began: Instant) -> Result<(), Failure> {
        self.write(done)?;
        let now = clock::now();
        self.due = now + EVERY.max((now - began) * WORK_TO_SAVING);
        Ok(())
    }

    fn write(&self, done: &impl Serialize) -> Result<(), Failure> {
        let content = Content {
            annulet_state: VERSION,
            of: self.of.clone(),
            done,
        };
        let mut text = serde_json::to_vec(&content)
            .map_err(|error| Failure::failed(format!("cannot write the state as JSON: {error}")))?;
        text.push(b'\n');
        let new = new_path(&self.path);
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        let replaced = written.and_then(|()| std::fs::rename(&new, &self.path));
        if let Err(error) = replaced {
            // The old state stays: what is in it is still true.
            std::fs::remove_file(&new).ok();
            return Err(Failure::unwritable(&self.path, &error));
        }
        Ok(())
    }

    /// Everything was done: there is nothing left to remember.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        let removed = std::fs::remove_file(&self.path);
        if self.lock.is_some() {
            // An empty file that stays does no harm.
            std::fs::remove_file(lock_path(&self.path)).ok();
        }
        removed.map_err(|error| Failure::unwritable(&self.path, &error))
    }

    /// What a user who wants to go on is to do.
    pub(crate) fn how_to_go_on(&self) -> String {
        format!(
            "the same command goes on where it stopped: {} remembers it",
            self.path.display()
        )
    }
}

/// What every state belongs to: the command, what it was given, and where it works.
pub(crate) fn of(
    command: &str,
    session: &Session,
    (path, format): (&Path, &str),
) -> Map<String, Value> {
    let entries = [
        ("command", Value::from(command)),
        ("cluster", session.client.view().cluster.to_string().into()),
        ("bucket", session.bucket_name.as_str().into()),
        ("path", path_in_state(path)),
        ("format", format.into()),
    ];
    let named = entries.into_iter();
    named
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Fails if writing the state would change what is imported or exported.
pub(crate) fn refuse_overlap(state: &Path, path: &Path) -> Result<(), Failure> {
    let refused = |why: String| {
        let advice = "keep the state apart from what is imported or exported";
        Err(Failure::usage(why).advise(advice))
    };
    let Some(of_state) = place(state) else {
        return Ok(());
    };
    let taken = [new_path(&of_state), lock_path(&of_state), of_state.clone()];
    if place(path).is_some_and(|path| taken.contains(&path)) {
        return refused(format!("{} is no place for the state", state.display()));
    }
    // A folder that is not there yet has nothing in it.
    let Ok(folder) = path.canonicalize() else {
        return Ok(());
    };
    if folder.is_dir() && of_state.starts_with(&folder) {
        let (state, path) = (state.display(), path.display());
        return refused(format!("{state} is in the folder {path}"));
    }
    Ok(())
}

/// Where a file is or will be, without the links and dots on the way; `None` if there is no such
/// folder, or no name.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}

/// Takes a state for this process, until the file that this gives is closed.
fn lock(path: &Path) -> Result<File, Failure> {
    let at = lock_path(path);
    loop {
        let file = File::options().create(true).append(true).open(&at);
        let file = file.map_err(|error| Failure::unwritable(&at, &error))?;
        match file.try_lock() {
            // Who held it before may have removed it meanwhile: the next one would make another.
            Ok(()) if !at.exists() => {}
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                let why = format!("{} is in use by another process", path.display());
                let advice = "wait until that one ends, or name another file for --resume";
                return Err(Failure::usage(why).advise(advice));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::unwritable(&at, &error)),
        }
    }
}

/// The file that shows that a state is in use.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Where the next state is written, until it takes the place of the last.
fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// A path as it stands in a state: the same wherever the command is given.
fn path_in_state(path: &Path) -> Value {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // A slash at the end says nothing.
    let parts: PathBuf = absolute.components().collect();
    parts.to_string_lossy().into()
}

fn read<P: DeserializeOwned>(path: &Path, of: &Map<String, Value>) -> Result<P, Failure> {
    let text = files::read_text(path)?;
    let none = |why: String| {
        Failure::usage(format!(
            "{} is no state to go on from: {why}",
            path.display()
        ))
        .advise("name another file for --resume, or remove this one to start over")
    };
    let content: Content<Value> =
        serde_json::from_str(&text).map_err(|error| none(error.to_string()))?;
    if content.annulet_state != VERSION {
        return Err(none(format!(
            "it is of version {}, and this program knows {VERSION}",
            content.annulet_state
        )));
    }
    let names = of.keys().chain(content.of.keys());
    let value = |map: &Map<String, Value>, name: &str| match map.get(name) {
        None | Some(Value::Null) => String::from("nothing"),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    for name in names {
        let (then, now) = (value(&content.of, name), value(of, name));
        if then != now {
            return Err(Failure::usage(format!(
                "{} belongs to something else: {name} was {then} and is {now}",
                path.display()
            ))
            .advise(
                "give the command that the state belongs to, or remove the state to start over",
            ));
        }
    }
    // Only now: what something else has done is of another kind.
    serde_json::from_value(content.done).map_err(|error| none(error.to_string()))
}

const VERSION: u32 = 1;
const EVERY: Duration = Duration::from_secs(1);
const WORK_TO_SAVING: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use serde_json::json;

    fn of(bucket: &str) -> Map<String, Value> {
        match json!({ "command": "export", "bucket": bucket, "bytes": 7 }) {
            Value::Object(of) => of,
            _ => Map::new(),
        }
    }

    fn open(path: &Path, bucket: &str) -> Result<(StateFile, Option<Vec<u64>>), Failure> {
        StateFile::open(path, of(bucket))
    }

    fn save(state: &mut StateFile, done: &[u64]) -> Result<(), Failure> {
        state.save(&done, clock::now())
    }

    #[test]
    fn a_state_is_of_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let open = || StateFile::open_alone::<Vec<u64>>(&path, of("b"));
        let (state, _) = open().unwrap();
        state.begin(&[0]).unwrap();
        let Err(refused) = open() else {
            panic!("two at once");
        };
        assert!(refused.to_string().contains("in use"), "{refused}");
        drop(state);
        let (state, done) = open().unwrap();
        assert_eq!(done, Some(vec![0]), "as after a stop");
        state.remove().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_state_is_kept_until_everything_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (mut state, done) = open(&path, "b").unwrap();
        assert_eq!(done, None);
        state.begin(&[0]).unwrap();
        assert_eq!(open(&path, "b").unwrap().1, Some(vec![0]));
        assert!(state.is_due(), "the first step is remembered at once");
        save(&mut state, &[1, 2]).unwrap();
        assert!(!state.is_due());
        save(&mut state, &[3]).unwrap();

        let (state, done) = open(&path, "b").unwrap();
        assert_eq!(done, Some(vec![3]));
        state.remove().unwrap();
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "nothing is left behind");
    }

    #[test]
    fn what_a_state_does_not_belong_to_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (mut state, _) = open(&path, "carts").unwrap();
        save(&mut state, &[1]).unwrap();
        let refused = open(&path, "users").err().unwrap();
        assert_eq!(refused.exit(), Exit::Usage);
        let expected = "belongs to something else: bucket was carts and is users";
        assert!(refused.to_string().contains(expected), "{refused}");

        let mut more = of("carts");
        more.insert("prefix".to_owned(), "p:".into());
        let refused = StateFile::open::<Vec<u64>>(&path, more).err().unwrap();
        let expected = "prefix was nothing and is p:";
        assert!(refused.to_string().contains(expected), "{refused}");
    }

    #[test]
    fn what_is_no_state_is_neither_believed_nor_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        for text in [
            "",
            "{\"key\":\"k\",\"value\":\"v\"}\n",
            "{\"annulet_state\":2,\"of\":{},\"done\":[]}",
            "{\"annulet_state\":1,\"of\":{},\"done\":\"all\"}",
        ] {
            std::fs::write(&path, text).unwrap();
            let refused = StateFile::open::<Vec<u64>>(&path, Map::new());
            let refused = refused.err().unwrap().to_string();
            assert!(refused.contains("no state to go on from"), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_state_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (mut state, _) = open(&path, "b").unwrap();
        save(&mut state, &[1]).unwrap();
        // Where the new file would be is a folder.
        std::fs::create_dir(folder.path().join("state.json.new")).unwrap();
        assert_eq!(save(&mut state, &[2]).unwrap_err().exit(), Exit::Failed);
        assert_eq!(open(&path, "b").unwrap().1, Some(vec![1]));
    }

    #[test]
    fn a_state_that_would_be_in_the_way_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("data/deep")).unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        let check = |state: &str, path: &str, fine: bool| {
            assert_eq!(
                refuse_overlap(&at(state), &at(path)).is_ok(),
                fine,
                "{state}"
            );
        };
        check("state", "data", true);
        check("data/state", "data", false);
        check("data/deep/state", "data", false);
        check("data/deep/../../state", "data", true);
        check("link/state", "data", false);
        check("data/state", "link/", false);
        check("data/state", "data/deep/..", false);
        check("state", "new-folder/", true);
        check("out", "out", false);
        check("out", "out.new", false);
        check("link/out", "data/out", false);
        check("data/../out", "out", false);
        check("out.state", "out", true);
        assert!(refuse_overlap(Path::new("state"), Path::new("out")).is_ok());
        assert!(refuse_overlap(Path::new("out"), Path::new("./out")).is_err());
    }

    #[test]
    fn a_slash_at_the_end_of_a_path_does_not_matter() {
        assert_eq!(path_in_state(Path::new("/a/b/")), "/a/b");
        assert_eq!(
            path_in_state(Path::new("b/")),
            path_in_state(Path::new("./b"))
        );
    }
}
