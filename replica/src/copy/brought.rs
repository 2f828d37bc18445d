//! An entry as it is stored, read and checked: what is copied, and what is handed over at the end.

use crate::layout::register::{self as register_layout, StoredRegister};
use crate::layout::siblings as siblings_layout;
use crate::layout::{self, Stored, StoredValue};
use annulet_protocol::ballot::Ballot;
use annulet_protocol::bucket::Mode;
use annulet_protocol::copy::CopiedEntry;
use annulet_protocol::hash::parse_storage_key;
use annulet_protocol::record::{Head, Record};
use annulet_protocol::register::Damage;
use annulet_protocol::siblings::Siblings;
use bytes::Bytes;

/// What an entry holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Brought {
    /// A head, with its value unless that has expired long ago.
    Record(Head, Option<Bytes>),
    /// Concurrent values.
    Siblings(Siblings),
    /// What was promised, and what was accepted with its value.
    Register(Ballot, Option<(Ballot, StoredRegister, Bytes)>),
}

impl Brought {
    /// Reads an entry of a bucket of this mode, and checks all of it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(mode: Mode, copied: &CopiedEntry) -> Result<Self, String> {
        let CopiedEntry { key, entry, value } = copied;
        let (_, bucket, name) = parse_storage_key(key).ok_or("a storage key that is none")?;
        let entry = entry.clone();
        let apart = || value.clone().ok_or_else(|| "a value is missing".to_owned());
        match mode {
            Mode::Lww => read_record((bucket, name), entry, apart),
            Mode::Siblings => read_siblings((bucket, name), entry, apart),
            Mode::Strong => read_register((bucket, name), entry, apart),
        }
    }
}

fn read_record(
    (bucket, name): (u32, &[u8]),
    entry: Bytes,
    apart: impl Fn() -> Result<Bytes, String>,
) -> Result<Brought, String> {
    let Stored { head, value } = layout::decode(entry)?;
    let value = match value {
        StoredValue::Inline(value) => value,
        StoredValue::Apart(length) => layout::decode_value(apart()?, &head.version, length)?,
        StoredValue::Gone => {
            let sound = head.verify_expiry(bucket, name);
            sound.map_err(|damage| damage.to_string())?;
            return Ok(Brought::Record(head, None));
        }
    };
    let record = Record { head, value };
    let sound = record.verify(bucket, name);
    sound.map_err(|damage| damage.to_string())?;
    Ok(Brought::Record(head, Some(record.value)))
}

fn read_siblings(
    (bucket, name): (u32, &[u8]),
    entry: Bytes,
    apart: impl Fn() -> Result<Bytes, String>,
) -> Result<Brought, String> {
    let stored = siblings_layout::decode(entry)?;
    let record = match stored.apart {
        None => stored.record,
        Some(values) => siblings_layout::decode_values(apart()?, values)?,
    };
    let sound = record.iter().all(|s| s.write.is_sound(bucket, name));
    match sound {
        true => Ok(Brought::Siblings(record)),
        false => Err("a value does not match its checksum".into()),
    }
}

fn read_register(
    (bucket, name): (u32, &[u8]),
    entry: Bytes,
    apart: impl Fn() -> Result<Bytes, String>,
) -> Result<Brought, String> {
    let stored = register_layout::decode(entry)?;
    let Some(accepted) = stored.accepted() else {
        return Ok(Brought::Register(stored.promised(), None));
    };
    let StoredRegister { register, value } = &accepted.value;
    let head = &register.head;
    let value = match value {
        StoredValue::Inline(value) => value.clone(),
        StoredValue::Apart(_) | StoredValue::Gone => register_layout::decode_value(apart()?, head)?,
    };
    let sound = register.verify(bucket, name);
    let sound = sound.and_then(|()| head.verify_value(bucket, name, &value));
    sound.map_err(|damage: Damage| damage.to_string())?;
    let accepted = (accepted.ballot, accepted.value.clone(), value);
    Ok(Brought::Register(stored.promised(), Some(accepted)))
}
