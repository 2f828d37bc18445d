//! `annulet cluster apply`: shows what would move, then makes the changes.

use super::plan::{self, PlanArgs};
use super::status;
use crate::commands::node;
use crate::failure::{Exit, Failure};
use crate::output;
use annulet::{Client, Member, MemberChanges, NodeId, Progress, View};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Wait until nothing moves any more
    #[arg(long)]
    wait: bool,
}

/// Time between two looks how far it is.
const LOOK: Duration = Duration::from_secs(1);

/// A change of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    server: String,
    action: Action,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Set(NodeId, MemberChanges),
    Leave(NodeId),
    /// Somebody is to leave who is no member.
    Gone,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    NotTried,
    /// It was so before.
    Already,
    Done,
    Refused(String),
}

impl ApplyArgs {
    /// Refuses what cannot be done from here, before anybody is asked.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if !self.plan.join.is_empty() {
            let why = "a server joins by itself, not by this command";
            let to_do = "start it with `annulet serve --join ADDRESS`, the address of any server";
            return Err(Failure::usage(why).advise(to_do));
        }
        let PlanArgs {
            leave,
            capacity,
            zone,
            ..
        } = &self.plan;
        if leave.len() + capacity.len() + zone.len() == 0 {
            let why = "nothing is to be changed";
            return Err(Failure::usage(why).advise("name changes by --leave, --capacity or --zone"));
        }
        Ok(())
    }
}

pub(super) async fn run(client: &Client, args: &ApplyArgs, json: bool) -> Result<Exit, Failure> {
    let view = client.newest_view().await?;
    let (present, gone) = split(&view, &args.plan);
    let forecast = client.plan(&present.changes(&view)?).await?;
    let mut steps = steps(&view, &present, &gone)?;
    if !json {
        plan::text(&view, &forecast)?;
    }
    let failed = make(client, &mut steps, json).await;
    let mut still = None;
    let waited = match (&failed, args.wait) {
        (None, true) => wait(client, json).await.map(|()| still = Some(true)),
        _ => Ok(()),
    };
    if json {
        output::json(&json!({
            "plan": plan::to_json(&view, &forecast),
            "changes": steps.iter().map(to_json).collect::<Vec<_>>(),
            "done": failed.is_none(),
            "still": still,
        }))?;
    }
    waited?;
    match failed {
        Some(failure) => Err(failure),
        None => Ok(Exit::Done),
    }
}

/// The arguments without those that are to leave and are no members, and these: they have left, as
/// when the command is given again. What is neither an id nor an address stays: it cannot be one.
fn split(view: &View, args: &PlanArgs) -> (PlanArgs, Vec<String>) {
    let could_be = |node: &str| {
        let port = node.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        node.parse::<NodeId>().is_ok() || matches!(port, Some(Ok(_)))
    };
    let stays = |node: &&String| node::find(view, node).is_ok() || !could_be(node);
    let (leave, gone): (Vec<_>, Vec<_>) = args.leave.iter().partition(stays);
    let present = PlanArgs {
        leave: leave.into_iter().cloned().collect(),
        ..args.clone()
    };
    (present, gone.into_iter().cloned().collect())
}

/// What is to be done, in this order: shares and zones first, so that what leaves goes to where it
/// is to be in the end.
fn steps(view: &View, args: &PlanArgs, gone: &[String]) -> Result<Vec<Step>, Failure> {
    let mut sets: Vec<(&Member, MemberChanges)> = Vec::new();
    let mut set = |node: &str, change: &dyn Fn(&mut MemberChanges)| {
        let member = node::find(view, node)?;
        match sets.iter_mut().find(|(other, _)| other.id == member.id) {
            Some((_, changes)) => change(changes),
            None => {
                let mut changes = MemberChanges::default();
                change(&mut changes);
                sets.push((member, changes));
            }
        }
        Ok::<(), Failure>(())
    };
    for (node, capacity) in &args.capacity {
        set(node, &|changes| changes.capacity = Some(*capacity))?;
    }
    for (node, zone) in &args.zone {
        set(node, &|changes| changes.zone = Some(zone.clone()))?;
    }
    let mut steps = Vec::new();
    for (member, changes) in sets {
        let capacity = changes.capacity.is_none_or(|c| c == member.capacity);
        let zone = changes.zone.as_ref().is_none_or(|z| *z == member.zone);
        steps.push(Step {
            server: member.address.clone(),
            action: Action::Set(member.id, changes),
            state: match capacity && zone {
                true => State::Already,
                false => State::NotTried,
            },
        });
    }
    for node in &args.leave {
        let member = node::find(view, node)?;
        steps.push(Step {
            server: member.address.clone(),
            action: Action::Leave(member.id),
            state: match member.state.is_to_go() {
                true => State::Already,
                false => State::NotTried,
            },
        });
    }
    steps.extend(gone.iter().map(|node| Step {
        server: node.clone(),
        action: Action::Gone,
        state: State::Already,
    }));
    Ok(steps)
}

/// Makes the changes up to the first that is refused, and says of each what became of it.
async fn make(client: &Client, steps: &mut [Step], json: bool) -> Option<Failure> {
    let mut failed = None;
    for step in steps {
        if step.state == State::NotTried && failed.is_none() {
            let made = match &step.action {
                Action::Set(id, changes) => client.set_member(*id, changes).await,
                Action::Leave(id) => client.remove_member(*id).await,
                Action::Gone => Ok(None),
            };
            step.state = match made {
                Ok(_) => State::Done,
                Err(error) => {
                    let why = error.to_string();
                    failed = Some(Failure::from(error));
                    State::Refused(why)
                }
            };
        }
        if !json {
            let said = output::line(&format!("{}: {}", described(step), became(step)));
            failed = failed.or(said.err());
        }
    }
    failed.map(|failure| failure.advise(AGAIN))
}

const AGAIN: &str = "when the reason is gone, give the same command again: it goes on with what \
    was not done";

fn described(step: &Step) -> String {
    let server = &step.server;
    match &step.action {
        Action::Set(_, changes) => {
            let capacity = changes.capacity.map(|c| format!("capacity {c}"));
            let zone = changes.zone.as_ref().map(|z| format!("zone `{z}`"));
            let what: Vec<_> = capacity.into_iter().chain(zone).collect();
            format!("{server} gets {}", what.join(" and "))
        }
        Action::Leave(_) | Action::Gone => format!("{server} leaves"),
    }
}

fn became(step: &Step) -> String {
    match (&step.state, &step.action) {
        (State::Already, Action::Gone) => {
            "there is no such server: it has left, or the name is wrong".into()
        }
        (State::Already, _) => "so already".into(),
        (State::Done, _) => "done".into(),
        (State::NotTried, _) => "NOT tried".into(),
        (State::Refused(why), _) => format!("REFUSED: {why}"),
    }
}

fn to_json(step: &Step) -> Value {
    let (id, changes) = match &step.action {
        Action::Set(id, changes) => (Some(id), Some(changes)),
        Action::Leave(id) => (Some(id), None),
        Action::Gone => (None, None),
    };
    let (result, error) = match &step.state {
        State::Already if step.action == Action::Gone => ("no_member", None),
        State::Already => ("already", None),
        State::Done => ("done", None),
        State::NotTried => ("not_tried", None),
        State::Refused(why) => ("refused", Some(why)),
    };
    json!({
        "change": if changes.is_some() { "set" } else { "leave" },
        "server": step.server,
        "id": id.map(NodeId::to_string),
        "capacity": changes.and_then(|changes| changes.capacity),
        "zone": changes.and_then(|changes| changes.zone.as_ref()),
        "result": result,
        "error": error,
    })
}

/// Waits until nothing moves any more, and who was to leave is gone.
async fn wait(client: &Client, json: bool) -> Result<(), Failure> {
    let mut said = String::new();
    loop {
        let progress = client.progress().await?;
        if is_over(&client.view(), &progress) {
            return match json {
                true => Ok(()),
                false => output::line("nothing moves any more"),
            };
        }
        let now = status::still_to_do(&progress);
        if !json && now != said {
            output::note(&now);
            said = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_over(view: &View, progress: &Progress) -> bool {
    let leaves = |member: &Member| member.state.is_to_go();
    progress.is_still() && !view.members.iter().any(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet::MemberState;

    fn view() -> View {
        let member = |id: u64, state| Member {
            id: NodeId(id),
            address: format!("host-{id}:7400"),
            capacity: 1,
            zone: "a".into(),
            region: String::new(),
            state,
        };
        View {
            members: vec![
                member(1, MemberState::Active),
                member(2, MemberState::Active),
                member(3, MemberState::Leaving),
            ]
            .into(),
            cluster: annulet_protocol::ids::ClusterId([1; 16]),
            name: String::new(),
            seed: 0,
            epoch: 1,
            value_bytes_max: 1,
            table: annulet_protocol::table::Table::default(),
            buckets: Vec::new(),
            tip: annulet_protocol::view::Tip::default(),
        }
    }

    fn of(args: &PlanArgs) -> Vec<(String, &'static str)> {
        let view = view();
        let (present, gone) = split(&view, args);
        let steps = steps(&view, &present, &gone).unwrap();
        let steps = steps.iter().map(|step| {
            let result = to_json(step)["result"].as_str().map(str::to_owned);
            let tried = ["not_tried", "already", "no_member"];
            let result = tried
                .into_iter()
                .find(|one| Some(*one) == result.as_deref());
            (described(step), result.unwrap())
        });
        steps.collect()
    }

    #[test]
    fn shares_and_zones_come_before_leaving_and_what_is_so_is_left_alone() {
        let args = PlanArgs {
            leave: vec![
                "host-2:7400".into(),
                "host-3:7400".into(),
                "host-9:1".into(),
            ],
            capacity: vec![("host-1:7400".into(), 3)],
            zone: vec![
                ("host-1:7400".into(), "b".into()),
                ("host-2:7400".into(), "a".into()),
            ],
            join: Vec::new(),
        };
        let expected = [
            ("host-1:7400 gets capacity 3 and zone `b`", "not_tried"),
            ("host-2:7400 gets zone `a`", "already"),
            ("host-2:7400 leaves", "not_tried"),
            ("host-3:7400 leaves", "already"),
            ("host-9:1 leaves", "no_member"),
        ];
        let expected = expected.map(|(what, result)| (what.to_owned(), result));
        assert_eq!(of(&args), expected);
    }

    #[test]
    fn who_is_to_be_changed_must_be_there() {
        let args = PlanArgs {
            capacity: vec![("host-9:7400".into(), 3)],
            ..PlanArgs::default()
        };
        let refused = steps(&view(), &args, &[]).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        assert!(refused.to_string().contains("host-9:7400"));
        let args = PlanArgs {
            leave: ["host-2", "host-9:1", "00000000000000ff"]
                .map(Into::into)
                .into(),
            ..PlanArgs::default()
        };
        let (present, gone) = split(&view(), &args);
        assert_eq!(gone, ["host-9:1", "00000000000000ff"]);
        steps(&view(), &present, &gone).unwrap_err();
    }
}
