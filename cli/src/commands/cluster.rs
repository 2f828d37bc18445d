//! `annulet cluster`: the servers, and how the ring is shared out among them.

mod apply;
mod hints;
mod plan;
mod recover;
mod status;

use crate::args::Common;
use crate::connect;
use crate::failure::{Exit, Failure};
use clap::Subcommand;

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Show the servers, whether they are up, their share of the data, and how far it is with what
    /// moves
    Status(status::StatusArgs),
    /// Show what would move if servers left, came or were changed, before anything does; without
    /// any flag, what is still to move now
    Plan(plan::PlanArgs),
    /// Show the same and do it, one change after the other; needs a certificate of role admin
    Apply(apply::ApplyArgs),
    /// Show what servers keep for others that could not be reached, and what was set aside
    Hints,
    /// Go on without a majority of the keepers, which is lost FOR GOOD; needs a certificate of role
    /// admin
    Recover(recover::RecoverArgs),
}

pub(crate) async fn run(command: ClusterCommand, common: &Common) -> Result<Exit, Failure> {
    if let ClusterCommand::Apply(args) = &command {
        args.check()?;
    }
    let client = connect::client(common).await?;
    let result = match command {
        ClusterCommand::Status(args) => status::run(&client, &args, common.json).await,
        ClusterCommand::Plan(args) => plan::run(&client, &args, common.json).await,
        ClusterCommand::Apply(args) => apply::run(&client, &args, common.json).await,
        ClusterCommand::Hints => hints::run(&client, common.json).await,
        ClusterCommand::Recover(args) => recover::run(&client, &args, common).await,
    };
    client.close().await;
    result
}
