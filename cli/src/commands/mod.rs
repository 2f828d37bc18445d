//! One module for each command, or family of commands.

pub(crate) mod bench;
pub(crate) mod bucket;
pub(crate) mod cert;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod data;
pub(crate) mod dev;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod many;
pub(crate) mod node;
pub(crate) mod scan;
pub(crate) mod serve;
