//! A server refuses a data folder that is not certainly its own and whole.
#![allow(clippy::unwrap_used)] // In a test, a panic is the report.

mod support;

use annulet_protocol::ids::{ClusterId, NodeId};
use annulet_server::error::FolderError;
use annulet_server::{Config, Server, ServerError};
use std::path::Path;
use support::{Authority, CLUSTER, NODE, Running, alone, member, write_files};

/// A folder in which a server has run.
async fn used() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let config = alone(folder.path(), &Authority::new());
    Running::start(config.clone()).await.stop().await.unwrap();
    (folder, config)
}

fn edit(config: &Config, from: &str, to: &str) {
    let path = config.data.join("identity.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

async fn refusal(config: &Config) -> FolderError {
    match Server::bind(config.clone()).await {
        Err(ServerError::Folder(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_folder_is_opened_again_by_its_own_server() {
    let (_folder, config) = used().await;
    let before = std::fs::read_to_string(config.data.join("identity.toml")).unwrap();
    assert!(
        before.contains("format = 1") && before.contains("complete = true"),
        "{before}"
    );
    let server = Server::bind(config.clone()).await.unwrap();
    assert_eq!(server.node(), NODE);
    let after = std::fs::read_to_string(config.data.join("identity.toml")).unwrap();
    let store = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("start = "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(store(&before), store(&after), "it stays the same store");
    assert_ne!(before, after, "and is another start of it");
}

#[tokio::test]
async fn another_cluster_or_node_is_refused() {
    let (_folder, config) = used().await;
    edit(
        &config,
        &CLUSTER.to_string(),
        &ClusterId([2; 16]).to_string(),
    );
    let error = refusal(&config).await;
    assert!(
        matches!(error, FolderError::ForeignCluster { .. }),
        "{error}"
    );
    edit(
        &config,
        &ClusterId([2; 16]).to_string(),
        &CLUSTER.to_string(),
    );
    edit(&config, &NODE.to_string(), &NodeId(9).to_string());
    let error = refusal(&config).await;
    assert!(matches!(error, FolderError::ForeignNode { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("belongs to member 0000000000000009"),
        "{error}"
    );
}

#[tokio::test]
async fn a_newer_format_is_refused_whatever_else_it_says() {
    let (_folder, config) = used().await;
    edit(&config, "format = 1", "format = 2\nnovelty = true");
    let error = refusal(&config).await;
    assert!(
        matches!(
            error,
            FolderError::NewerFormat {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn data_without_a_readable_identity_is_refused() {
    let (_folder, config) = used().await;
    let path = config.data.join("identity.toml");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"\xff\xfe", b"format = 1"] {
        std::fs::write(&path, damaged).unwrap();
        let error = refusal(&config).await;
        assert!(matches!(error, FolderError::Identity { .. }), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = refusal(&config).await;
    assert!(matches!(error, FolderError::Identity { .. }), "{error}");
    assert!(error.to_string().contains("is missing"), "{error}");
    assert!(
        !path.exists(),
        "it does not become another's folder by being refused"
    );
}

#[tokio::test]
async fn a_lost_or_damaged_store_is_not_replaced_by_an_empty_one() {
    let (_folder, config) = used().await;
    let current = config.data.join("store/CURRENT");
    let content = std::fs::read(&current).unwrap();
    std::fs::write(&current, b"nonsense\n").unwrap();
    let error = refusal(&config).await;
    assert!(matches!(error, FolderError::Store { .. }), "{error}");
    std::fs::write(&current, content).unwrap();
    drop(Server::bind(config.clone()).await.unwrap());
    std::fs::remove_dir_all(config.data.join("store")).unwrap();
    let error = refusal(&config).await;
    assert!(matches!(error, FolderError::Store { .. }), "{error}");
    assert!(error.to_string().contains("a new id"), "{error}");
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let config = alone(folder.path(), &Authority::new());
    drop(Server::bind(config.clone()).await.unwrap());
    edit(&config, "complete = true", "complete = false");
    std::fs::remove_dir_all(config.data.join("store")).unwrap();
    drop(Server::bind(config.clone()).await.unwrap());
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let (_folder, config) = used().await;
    let server = Server::bind(config.clone()).await.unwrap();
    let error = refusal(&config).await;
    assert!(matches!(error, FolderError::Locked { .. }), "{error}");
    drop(server);
    drop(Server::bind(config).await.unwrap());
}

#[tokio::test]
async fn what_else_cannot_be_is_said_before_the_folder_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let config = alone(folder.path(), &authority);
    let elsewhere = Config {
        advertise: Some("localhost:2".into()),
        ..config.clone()
    };
    let error = Server::bind(elsewhere).await.unwrap_err().to_string();
    assert!(
        error.contains("`localhost:2`") && error.contains("localhost:1"),
        "{error}"
    );

    let mut small = config.clone();
    small.limits.message_bytes = 3 << 20;
    let error = Server::bind(small).await.unwrap_err().to_string();
    assert!(error.contains("limits.message_bytes"), "{error}");

    let broken = |change: &dyn Fn(&Path)| {
        write_files(folder.path(), &authority, vec![member(NODE, "localhost:1")]);
        change(folder.path());
        Server::bind(config.clone())
    };
    let client = authority.issue(CLUSTER, "client");
    let stranger = authority.issue(ClusterId([3; 16]), "peer");
    let other = authority.issue(CLUSTER, "peer");
    for (change, expected) in [
        (
            &(|f: &Path| std::fs::write(f.join("ca.pem"), "").unwrap()) as &dyn Fn(&Path),
            "ca.pem",
        ),
        (
            &|f: &Path| std::fs::remove_file(f.join("node.key")).unwrap(),
            "node.key",
        ),
        (
            &|f: &Path| std::fs::write(f.join("node.key"), &other.key).unwrap(),
            "node.pem",
        ),
        (
            &|f: &Path| support::write_certificates(f, &authority, &client),
            "role `peer`",
        ),
        (
            &|f: &Path| support::write_certificates(f, &authority, &stranger),
            "for cluster 0303",
        ),
        (
            &|f: &Path| std::fs::write(f.join("cluster.toml"), "x").unwrap(),
            "cluster.toml",
        ),
    ] {
        let error = broken(change).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(!config.data.exists());
}
