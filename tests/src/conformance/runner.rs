//! Runs the cases by the façade that all bindings wrap.

use super::shown::{Item, Items, Shown, bytes, expect, short};
use super::{Scene, cases};
use annulet::facade::{
    self, Bucket, BucketChanges, BucketOptions, Client, Committed, ConnectOptions, ReadOptions,
    ScanOptions, Session, WriteOptions,
};
use annulet::{Entry, Error, ErrorKind, Result};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// A step that did not go as its case says.
#[derive(Debug)]
pub struct Failed {
    /// The case's name.
    pub case: String,
    /// What the step was, and what came of it.
    pub why: String,
}

/// Runs all cases and gives those that failed.
pub fn run(scene: &Scene) -> Vec<Failed> {
    let mut runner = Runner {
        scene,
        main: None,
        clients: BTreeMap::new(),
        sessions: BTreeMap::new(),
        saved: BTreeMap::new(),
        case: 0,
    };
    let mut failed = Vec::new();
    for (number, case) in cases().into_iter().enumerate() {
        runner.case = number;
        runner.clients.clear();
        runner.sessions.clear();
        runner.saved.clear();
        let steps = case["steps"].as_array().expect("a list of steps");
        for step in steps {
            if let Err(why) = runner.step(step) {
                let case = case["name"].as_str().unwrap_or_default().to_owned();
                let why = format!("{}: {why}", short(step));
                failed.push(Failed { case, why });
                break;
            }
        }
    }
    failed
}

struct Runner<'a> {
    scene: &'a Scene,
    /// The client of steps that name none.
    main: Option<Client>,
    clients: BTreeMap<String, Client>,
    sessions: BTreeMap<String, Session>,
    saved: BTreeMap<String, Item>,
    case: usize,
}

/// What a step comes to, and how many keys it went through if it was a scan.
type Done = Result<Shown>;

fn wait<T: Send + 'static>(
    operation: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    facade::wait(operation, || true).expect("it is waited for")
}

fn shown<T: Into<Shown> + Send + 'static>(
    operation: impl Future<Output = Result<T>> + Send + 'static,
) -> Done {
    Ok(wait(operation)?.into())
}

impl Runner<'_> {
    fn step(&mut self, step: &Value) -> std::result::Result<(), String> {
        let shown = self.act(step).unwrap_or_else(Shown::from);
        let expected = match (step.get("fails"), step.get("gives"), step.get("each")) {
            (Some(_), ..) => Some(step),
            (None, Some(gives), _) => Some(gives),
            (None, None, each) => each,
        };
        match (expected, &shown) {
            (Some(expected), shown) => expect(expected, shown, &self.saved)?,
            (None, Shown::Failed(_)) => return Err(format!("got {}", short(&shown))),
            (None, _) => {}
        }
        let Some(save) = step.get("save").and_then(Value::as_object) else {
            return Ok(());
        };
        let (Shown::Items(items) | Shown::Failed(items)) = shown else {
            return Err(format!("nothing to save in {}", short(&shown)));
        };
        for (item, name) in save {
            let found = items.get(item.as_str()).cloned();
            let found = found.ok_or_else(|| format!("no `{item}` to save"))?;
            let name = name.as_str().unwrap_or_default();
            self.saved.insert(name.to_owned(), found);
        }
        Ok(())
    }

    fn act(&mut self, step: &Value) -> Done {
        match text(step, "do").unwrap_or_default() {
            "connect" => self.connect(step),
            "close" => shown(self.client(step)?.close()),
            "session" => {
                let session = self.client(step)?.session()?;
                self.keep_session(step, session)
            }
            "session_from" => {
                let token = self.given_bytes(step, "token").unwrap_or_default();
                let session = self.client(step)?.session_from(&token)?;
                self.keep_session(step, session)
            }
            "session_to_bytes" => {
                let name = text(step, "session").unwrap_or_default();
                let token = wait(self.sessions[name].to_bytes())?;
                Ok(Shown::Items(Items::from([("token", Item::Bytes(token))])))
            }
            "statistics" => Ok(self.client(step)?.statistics()?.into()),
            "signal" => {
                let server = match text(step, "server") {
                    Some("doomed") => &self.scene.doomed,
                    _ => &self.scene.lonely,
                };
                let (process, name) = (server.process(0), text(step, "signal"));
                let signal = format!("-{}", name.unwrap_or_default());
                let done = Command::new("kill")
                    .args([signal, process.to_string()])
                    .status();
                assert!(done.expect("runs kill").success(), "{step}");
                while name == Some("STOP") && !has_stopped(process) {}
                Ok(Shown::None)
            }
            "create_bucket" | "set_bucket" | "delete_bucket" | "buckets" => self.policy(step),
            "scan" => self.scan(step),
            "multi_get" | "multi_put" | "multi_delete" => self.multi(step),
            "get" | "exists" | "get_merged" => self.read(step),
            _ => self.write(step),
        }
    }

    fn connect(&mut self, step: &Value) -> Done {
        let owned = |name| text(step, name).map(str::to_owned);
        let whole = |name| step.get(name).and_then(Value::as_i64);
        let options = ConnectOptions {
            profile: text(step, "profile").map(|name| self.scene.profile(name)),
            timeout_ms: float(step, "timeout_ms"),
            level: owned("level"),
            zone: owned("zone"),
            region: owned("region"),
            connections_max: whole("connections_max"),
            idle_after_ms: float(step, "idle_after_ms"),
            check_one_in: whole("check_one_in"),
        };
        let client = wait(Client::connect(options))?;
        let name = text(step, "client").unwrap_or_default().to_owned();
        self.clients.insert(name, client);
        Ok(Shown::None)
    }

    fn keep_session(&mut self, step: &Value, session: Session) -> Done {
        let name = text(step, "session").unwrap_or_default().to_owned();
        self.sessions.insert(name, session);
        Ok(Shown::None)
    }

    fn client(&mut self, step: &Value) -> Result<Client> {
        if let Some(name) = text(step, "client") {
            return Ok(self.clients[name].clone());
        }
        if let Some(client) = &self.main {
            return Ok(client.clone());
        }
        let options = ConnectOptions {
            profile: Some(self.scene.profile("main")),
            ..ConnectOptions::default()
        };
        let client = wait(Client::connect(options))?;
        Ok(self.main.insert(client).clone())
    }

    fn bucket(&mut self, step: &Value) -> Result<Bucket> {
        let name = self.name(step, "bucket");
        match text(step, "session") {
            Some(session) => self.sessions[session].bucket(&name),
            None => self.client(step)?.bucket(&name),
        }
    }

    /// A name that differs from language to language.
    fn name(&self, step: &Value, field: &str) -> String {
        let name = text(step, field).unwrap_or_default();
        name.replace("{run}", "rust")
    }

    /// A key of this case.
    fn key(&self, step: &Value, written: &Value) -> Bytes {
        let key = bytes(written).unwrap_or_default();
        match flag(step, "exact") {
            true => key,
            false => [self.prefix().as_bytes(), &key].concat().into(),
        }
    }

    fn prefix(&self) -> String {
        format!("rust/{}/", self.case)
    }

    fn keys(&self, step: &Value) -> Vec<Bytes> {
        let keys = step["keys"].as_array().map_or(&[][..], Vec::as_slice);
        keys.iter().map(|key| self.key(step, key)).collect()
    }

    fn entries(&self, step: &Value) -> Vec<(Bytes, Bytes)> {
        let entries = step["entries"].as_array().map_or(&[][..], Vec::as_slice);
        let entry = |entry: &Value| {
            let value = bytes(&entry[1]).unwrap_or_default();
            (self.key(step, &entry[0]), value)
        };
        entries.iter().map(entry).collect()
    }

    /// What was saved under the name that the field gives, or what the field is itself.
    fn given(&self, step: &Value, field: &str) -> Option<Item> {
        let text = text(step, field)?;
        match text.strip_prefix('$') {
            Some(name) => Some(self.saved[name].clone()),
            None => Some(Item::Text(text.to_owned())),
        }
    }

    fn given_text(&self, step: &Value, field: &str) -> Option<String> {
        match self.given(step, field)? {
            Item::Text(text) => Some(text),
            other => panic!("{field} is {other:?}"),
        }
    }

    fn given_bytes(&self, step: &Value, field: &str) -> Option<Bytes> {
        match self.given(step, field)? {
            Item::Bytes(bytes) => Some(bytes),
            Item::Text(text) => Some(text.into()),
            other => panic!("{field} is {other:?}"),
        }
    }

    fn writing<'a>(&self, step: &'a Value) -> WriteOptions<'a> {
        WriteOptions {
            level: text(step, "level"),
            timeout_ms: float(step, "timeout_ms"),
            ttl_ms: float(step, "ttl_ms"),
            expires_at_ms: float(step, "expires_at_ms"),
            context: self.given_bytes(step, "context"),
        }
    }

    fn read(&mut self, step: &Value) -> Done {
        let (bucket, options) = (self.bucket(step)?, reading(step));
        let key = self.key(step, &step["key"]);
        match text(step, "do").unwrap_or_default() {
            "get" => shown(bucket.get(key, options)),
            "exists" => shown(bucket.exists(key, options)),
            _ => {
                let merging = wait(bucket.begin_merge(key, options))?;
                let join = text(step, "join").unwrap_or_default().as_bytes();
                let merged = merging.unmerged().map(|values| values.join(join).into());
                Ok(merging.finish(merged)?.into())
            }
        }
    }

    fn write(&mut self, step: &Value) -> Done {
        let (bucket, options) = (self.bucket(step)?, self.writing(step));
        let key = self.key(step, &step["key"]);
        let value = bytes(&step["value"]).unwrap_or_default();
        let version = self.given_text(step, "version").unwrap_or_default();
        match text(step, "do").unwrap_or_default() {
            "put" => shown(bucket.put(key, value, options)),
            "delete" => shown(bucket.delete(key, options)),
            "touch" => shown(bucket.touch(key, options)),
            "put_if_version" => shown(bucket.put_if_version(key, value, version, options)),
            "put_if_absent" => shown(bucket.put_if_absent(key, value, options)),
            "delete_if_version" => shown(bucket.delete_if_version(key, version, options)),
            "update" => update(&bucket, key, step, options),
            "resolve" => {
                let op_id = self.given_text(step, "op_id").unwrap_or_default();
                shown(bucket.resolve(key, facade::op_id(&op_id)))
            }
            other => panic!("no step `{other}`"),
        }
    }

    fn multi(&mut self, step: &Value) -> Done {
        let bucket = self.bucket(step)?;
        match text(step, "do").unwrap_or_default() {
            "multi_get" => shown(bucket.multi_get(self.keys(step), reading(step))),
            "multi_put" => shown(bucket.multi_put(self.entries(step), self.writing(step))),
            _ => shown(bucket.multi_delete(self.keys(step), self.writing(step))),
        }
    }

    fn scan(&mut self, step: &Value) -> Done {
        let bucket = self.bucket(step)?;
        let scan = bucket.scan(ScanOptions {
            keys_only: !flag(step, "values"),
            page_entries: step["page_entries"].as_i64(),
            cursor: self.given_text(step, "cursor"),
            level: text(step, "level"),
            timeout_ms: float(step, "timeout_ms"),
        })?;
        let pages = step["pages"].as_u64().unwrap_or(u64::MAX);
        let (mut found, mut cursor) = (Vec::new(), Item::None);
        for seen in 0..pages {
            let Some(page) = wait(scan.next_page(seen))?.page else {
                break;
            };
            found.extend(page.entries);
            cursor = page.cursor.map_or(Item::None, Item::Text);
        }
        let wrong = |why: String| Error::new(ErrorKind::Internal, why);
        if let Some(count) = step["count"].as_u64()
            && found.len() as u64 != count
        {
            return Err(wrong(format!("{} keys", found.len())));
        }
        let mut keys: Vec<_> = found.iter().map(|entry| entry.key.clone()).collect();
        keys.sort();
        if step["keys"].is_array() && keys != self.keys(step) {
            return Err(wrong(format!("keys {keys:?}")));
        }
        let values = found.into_iter().map(|entry| (entry.key, entry.value));
        let mut values: Vec<_> = values
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        values.sort();
        if step["entries"].is_array() && values != self.entries(step) {
            return Err(wrong(format!("entries {values:?}")));
        }
        Ok(Shown::Items(Items::from([("cursor", cursor)])))
    }

    fn policy(&mut self, step: &Value) -> Done {
        let (client, name) = (self.client(step)?, self.name(step, "name"));
        let owned = |name| text(step, name).map(str::to_owned);
        match text(step, "do").unwrap_or_default() {
            "create_bucket" => {
                let options = BucketOptions {
                    mode: owned("mode"),
                    replicas: step["replicas"].as_i64(),
                    durability: owned("durability"),
                    read_level: owned("read_level"),
                    write_level: owned("write_level"),
                    ttl_ms: float(step, "ttl_ms"),
                    merge: owned("merge"),
                };
                self.policy_shown(step, wait(client.create_bucket(name, options))?)
            }
            "set_bucket" => {
                let changes = BucketChanges {
                    read_level: owned("read_level"),
                    write_level: owned("write_level"),
                    ttl_ms: float(step, "ttl_ms"),
                };
                self.policy_shown(step, wait(client.set_bucket(name, changes))?)
            }
            "delete_bucket" => shown(client.delete_bucket(name)),
            _ => {
                let buckets = wait(client.buckets())?;
                let name = self.name(&step["lists"], "name");
                let found = buckets.into_iter().find(|bucket| bucket.name == name);
                match found {
                    Some(bucket) => self.policy_shown(&step["lists"], bucket),
                    None => Err(Error::new(ErrorKind::Internal, "it is not listed")),
                }
            }
        }
    }

    /// A bucket under the name that its case gives it.
    fn policy_shown(&self, step: &Value, bucket: facade::BucketPolicy) -> Done {
        assert_eq!(bucket.name, self.name(step, "name"));
        let name = text(step, "name").unwrap_or_default().to_owned();
        Ok(facade::BucketPolicy { name, ..bucket }.into())
    }
}

fn reading(step: &Value) -> ReadOptions<'_> {
    ReadOptions {
        level: text(step, "level"),
        timeout_ms: float(step, "timeout_ms"),
        stale: flag(step, "stale"),
    }
}

/// Appends to a value, or removes it.
fn update(bucket: &Bucket, key: Bytes, step: &Value, options: WriteOptions<'_>) -> Done {
    let update = wait(bucket.begin_update(key, options))?;
    loop {
        let found: Option<Entry> = wait(update.value())?;
        let found = found.map(|entry| entry.value).unwrap_or_default();
        let next = text(step, "append").map(|more| [&found[..], more.as_bytes()].concat().into());
        if let Committed::Done(written) = wait(update.commit(next))? {
            return Ok(written.into());
        }
    }
}

fn text<'a>(step: &'a Value, field: &str) -> Option<&'a str> {
    step.get(field).and_then(Value::as_str)
}

fn flag(step: &Value, field: &str) -> bool {
    step.get(field) == Some(&Value::Bool(true))
}

fn float(step: &Value, field: &str) -> Option<f64> {
    match step.get(field)? {
        Value::String(text) if text == "infinite" => Some(f64::INFINITY),
        number => number.as_f64(),
    }
}

/// Whether a process that is to stop has: the system stops its threads one after the other, each
/// where it is in a moment.
fn has_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("a process");
    let mut states = threads.map(|thread| {
        let file = thread.expect("a thread").path().join("stat");
        std::fs::read_to_string(file).unwrap_or_default()
    });
    // Behind the name, which may have anything in it.
    states.all(|state| {
        state
            .rsplit(") ")
            .next()
            .is_some_and(|s| s.starts_with('T'))
    })
}
