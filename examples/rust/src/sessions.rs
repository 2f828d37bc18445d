//! Sessions of a web site: written at login, read at every request, gone by themselves.
//!
//! Start a cluster with `annulet dev`, then `cargo run -p annulet-examples`.

use annulet::{Client, Level, Profile, ReadOptions, Ttl, WriteOptions};
use std::time::Duration;

#[tokio::main]
async fn main() -> annulet::Result<()> {
    // The profile says where the cluster is and who we are; see `Profile::find`.
    let client = Client::connect(Profile::find(None)?).await?;
    let sessions = client.bucket("default");

    // A login: a majority of the replicas has it on disk before `put_with` returns.
    let hour = WriteOptions {
        ttl: Ttl::After(Duration::from_secs(3600)),
        ..Default::default()
    };
    sessions
        .put_with("session:7f3a", r#"{"user":"ada"}"#, &hour)
        .await?;

    // A request: the default level sees every login that was acknowledged before.
    match sessions.get("session:7f3a").await? {
        Some(entry) => println!("signed in as {}", String::from_utf8_lossy(&entry.value)),
        None => println!("not signed in"),
    }

    // A page that may be a moment behind asks one replica only.
    let quick = ReadOptions {
        level: Some(Level::One),
        ..Default::default()
    };
    let known = sessions.exists_with("session:7f3a", &quick).await?;
    println!("known to the nearest replica: {known}");

    // A logout.
    sessions.delete("session:7f3a").await?;
    println!("after logout: {:?}", sessions.get("session:7f3a").await?);

    client.close().await;
    Ok(())
}
