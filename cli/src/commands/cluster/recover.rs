//! `annulet cluster recover`: the servers go on without a majority of the keepers, or without what
//! only those had that are lost.

pub(super) mod loss;

use crate::args::Common;
use crate::failure::{Exit, Failure};
use crate::output;
use annulet::{
    Anew, Client, Error, ErrorKind, MemberFound, NodeId, RecoverOutcome, RecoverReply, View,
};
use clap::Args;
use loss::Loss;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};

#[derive(Args, Debug)]
pub(crate) struct RecoverArgs {
    /// Do not ask: those that do not answer are lost for good
    #[arg(long)]
    yes: bool,
    /// Give up this server too, by its id or address, with ALL that only it had: partitions of
    /// which it leaves no majority of the owners go on with what the others have. May be given
    /// several times, and also while the keepers are there
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    accept_loss: Vec<String>,
}

/// What a person types to go on.
const WORD: &str = "recover";

pub(super) async fn run(
    client: &Client,
    args: &RecoverArgs,
    common: &Common,
) -> Result<Exit, Failure> {
    let plan = client.plan_recovery().await?;
    let view = client.view();
    let loss = match args.accept_loss.is_empty() {
        true => None,
        false => Some(Loss::of(client, &args.accept_loss).await?),
    };
    let recovers = matches!(plan.outcome, RecoverOutcome::Possible(_));
    if !recovers && loss.is_none() {
        return show(&plan, &view, common.json);
    }
    if !common.json {
        if let RecoverOutcome::Possible(anew) = &plan.outcome {
            found(&plan, &view)?;
            intent(&plan, anew, &view)?;
        }
        loss.iter().try_for_each(|loss| loss.show(&view))?;
    }
    let asks = !args.yes && !common.json && std::io::stdin().is_terminal();
    if !args.yes && (!asks || !confirmed()?) {
        if common.json {
            output::json(&whole(&plan, &view, loss.as_ref(), "possible"))?;
        }
        let why = "nothing was changed, since nobody confirmed that they are lost for good";
        return Err(Failure::usage(why).advise("if they are, repeat it with --yes"));
    }
    let reply = match recovers {
        true => client.recover().await?,
        false => plan,
    };
    let done = matches!(reply.outcome, RecoverOutcome::Done(_));
    if recovers && (!done || common.json && loss.is_none()) {
        return show(&reply, &client.view(), common.json);
    }
    if recovers && !common.json {
        ended(&reply)?;
    }
    if let Some(loss) = &loss {
        loss.accept(client, common.json).await?;
        if common.json {
            output::json(&whole(&reply, &client.view(), Some(loss), "done"))?;
        }
    }
    Ok(Exit::Done)
}

/// What was found of the keepers, and what is lost besides, where that is asked for.
fn whole(reply: &RecoverReply, view: &View, loss: Option<&Loss>, result: &str) -> Value {
    let recovery = to_json(reply, view);
    match loss {
        None => recovery,
        Some(loss) => json!({ "recovery": recovery, "accepted_loss": loss.to_json(result) }),
    }
}

/// What was found, and what became of it.
fn show(reply: &RecoverReply, view: &View, json: bool) -> Result<Exit, Failure> {
    match json {
        true => output::json(&to_json(reply, view))?,
        false => found(reply, view)?,
    }
    match json && matches!(reply.outcome, RecoverOutcome::Done(_)) {
        true => Ok(Exit::Done),
        false => ended(reply),
    }
}

fn ended(reply: &RecoverReply) -> Result<Exit, Failure> {
    let failed = |kind, why: &str| Failure::from(Error::new(kind, why));
    match &reply.outcome {
        RecoverOutcome::Done(Anew { epoch, .. }) => {
            output::line(&format!(
                "recovered: epoch {} begins generation {}; let those that are lost leave by \
                 `annulet node leave`",
                epoch.number, epoch.generation
            ))?;
            Ok(Exit::Done)
        }
        RecoverOutcome::Unsettled(_) => Err(failed(
            ErrorKind::Unavailable,
            "the chain is begun anew, and too few of its new keepers hold that yet",
        )
        .advise("`annulet cluster status` shows the epoch; the servers go on trying")),
        RecoverOutcome::Interrupted(why) => Err(failed(ErrorKind::Unavailable, why)
            .advise("some servers decide nothing any more until a recovery is over: repeat it")),
        RecoverOutcome::Refused(why) => Err(failed(ErrorKind::Conflict, why)
            .advise("nothing was changed; `annulet cluster status` shows which servers are up")),
        RecoverOutcome::Possible(_) | RecoverOutcome::Unknown => Err(Failure::failed(
            "the server says what this version does not know: it is newer",
        )),
    }
}

fn address(view: &View, id: NodeId) -> String {
    view.member(id)
        .map_or_else(|| "-".into(), |member| member.address.clone())
}

/// Every server, and what it said.
fn found(reply: &RecoverReply, view: &View) -> Result<(), Failure> {
    let heading = ["ID", "ADDRESS", "NEWEST EPOCH", "KEEPER", "NOTE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(reply.members.iter().map(|found| {
        vec![
            found.id.to_string(),
            address(view, found.id),
            found.newest.map_or_else(
                || "-".into(),
                |point| match point.generation {
                    0 => point.number.to_string(),
                    generation => format!("{} (generation {generation})", point.number),
                },
            ),
            match reply.keepers.contains(&found.id) {
                true => "yes".into(),
                false => "-".into(),
            },
            note(found),
        ]
    }));
    output::table(&rows)
}

fn note(found: &MemberFound) -> String {
    let generation = found.newest.map_or(0, |newest| newest.generation);
    match found {
        MemberFound {
            newest: None, why, ..
        } => format!("NO ANSWER: {why}"),
        MemberFound { forks: true, .. } => "NOT ON THE CHAIN of the newest epoch".into(),
        MemberFound { sealed, .. } if *sealed > generation => {
            format!("sealed for generation {sealed} by a recovery that is not over")
        }
        MemberFound { .. } => "-".into(),
    }
}

/// What will be done, and what it means.
fn intent(reply: &RecoverReply, anew: &Anew, view: &View) -> Result<(), Failure> {
    let answers = |id: &NodeId| {
        let mut members = reply.members.iter();
        members.any(|found| found.id == *id && found.newest.is_some())
    };
    let all = reply.members.len();
    let there = reply
        .members
        .iter()
        .filter(|found| answers(&found.id))
        .count();
    let keepers = reply
        .keepers
        .iter()
        .filter(|keeper| answers(keeper))
        .count();
    let next: Vec<_> = anew.keepers.iter().map(|id| address(view, *id)).collect();
    output::line(&format!(
        "{there} of {all} servers answer, and {keepers} of {} keepers.",
        reply.keepers.len()
    ))?;
    output::line(&format!(
        "To be done: go on from epoch {} with epoch {} of generation {}, and decide what follows \
         at {}.",
        reply.newest.number,
        anew.epoch.number,
        anew.epoch.generation,
        next.join(", ")
    ))?;
    if there < all {
        output::line(&format!(
            "The {} that do not answer are TAKEN TO BE LOST FOR GOOD. Changes of buckets and \
             members that only they know are given up, and one of them that comes back and knows \
             such a change stops. If they are only cut off, restore the network instead.",
            all - there
        ))?;
    }
    Ok(())
}

/// Asks at the terminal.
fn confirmed() -> Result<bool, Failure> {
    let failed = |error| Failure::failed(format!("the terminal cannot be read: {error}"));
    let mut err = std::io::stderr().lock();
    write!(err, "type `{WORD}` to go on: ")
        .and_then(|()| err.flush())
        .map_err(failed)?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(failed)?;
    Ok(line.trim() == WORD)
}

fn to_json(reply: &RecoverReply, view: &View) -> Value {
    let point = |point: &annulet::Point| {
        json!({
            "generation": point.generation,
            "number": point.number,
            "hash": point.hash.to_string(),
        })
    };
    let ids = |ids: &[NodeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let members = reply.members.iter().map(|found| {
        json!({
            "id": found.id.to_string(),
            "address": address(view, found.id),
            "answers": found.newest.is_some(),
            "newest": found.newest.as_ref().map(point),
            "sealed": found.sealed,
            "forks": found.forks,
            "why": found.why,
        })
    });
    let anew = |anew: &Anew| json!({ "epoch": point(&anew.epoch), "keepers": ids(&anew.keepers) });
    let (result, next, why) = match &reply.outcome {
        RecoverOutcome::Possible(next) => ("possible", Some(anew(next)), None),
        RecoverOutcome::Done(next) => ("done", Some(anew(next)), None),
        RecoverOutcome::Unsettled(next) => ("unsettled", Some(anew(next)), None),
        RecoverOutcome::Refused(why) => ("refused", None, Some(why)),
        RecoverOutcome::Interrupted(why) => ("interrupted", None, Some(why)),
        RecoverOutcome::Unknown => ("unknown", None, None),
    };
    json!({
        "result": result,
        "why": why,
        "next": next,
        "newest": point(&reply.newest),
        "keepers": ids(&reply.keepers),
        "members": members.collect::<Vec<_>>(),
    })
}
