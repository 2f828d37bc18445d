//! How far it is with what moves, put together from what each server says of itself.

use super::stored;
use crate::client::MemberStatus;
use annulet_protocol::ids::NodeId;
use annulet_protocol::status::CopyState;
use annulet_protocol::table::Joint;
use annulet_protocol::view::View;
use annulet_ring::forecast::Forecast;
use annulet_ring::owners::{current_lists, next_lists};
use std::collections::{BTreeMap, BTreeSet};

/// How far it is with all that moves.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// let progress = client.progress().await?;
/// match progress.seconds_left {
///     Some(0) => println!("nothing moves"),
///     Some(seconds) => println!("{} lists move, for about {seconds} s", progress.moves.len()),
///     None => println!("nothing was copied lately"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Each list that is becoming another, in order of partition.
    pub moves: Vec<MoveProgress>,
    /// Copies of partitions that are still to be fetched, those under way by what of them is
    /// missing.
    pub replicas_left: f64,
    /// About how many bytes that is, if the servers say how much they hold.
    pub bytes_left: Option<u64>,
    /// Lists in which only the order is still to change.
    pub reordered_left: u64,
    /// Bytes that all servers copy in a second, of late; `None`: none of them says it.
    pub bytes_per_second: Option<u64>,
    /// About how long it takes until all copies are where they are to be. `None`: nothing was
    /// copied lately, so nobody knows.
    pub seconds_left: Option<u64>,
}

/// One list that is becoming another.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// for one in client.progress().await?.moves {
///     let copied = one.copied().map_or("?".into(), |part| format!("{:.0} %", 100.0 * part));
///     println!("partition {}: {:?} to {:?}, {copied}", one.partition, one.from, one.to);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MoveProgress {
    /// The partition.
    pub partition: u32,
    /// The region whose list it is.
    pub region: String,
    /// Owners as they are.
    pub from: Vec<NodeId>,
    /// Owners to be.
    pub to: Vec<NodeId>,
    /// How far each owner to be is, in every region: a new one copies, one that stays compares.
    pub owners: Vec<OwnerProgress>,
}

/// How far one owner to be is.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> annulet::Result<()> {
/// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
/// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
/// for one in client.progress().await?.moves {
///     for owner in one.owners.iter().filter(|owner| owner.is_new) {
///         println!("{} copies partition {}: {:?}", owner.id, one.partition, owner.copied);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct OwnerProgress {
    /// The owner.
    pub id: NodeId,
    /// Whether it does not own the partition yet.
    pub is_new: bool,
    /// The part that it has, 0 to 1; `None`: it does not say.
    pub copied: Option<f64>,
    /// Whether it has all that it should; `None`: it does not say.
    pub over: Option<bool>,
}

impl MoveProgress {
    /// The part that all owners to be have together, 0 to 1; `None`: not all of them say it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// for one in client.progress().await?.moves {
    ///     println!("partition {}: {:?}", one.partition, one.copied());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn copied(&self) -> Option<f64> {
        let parts = self.owners.iter().map(|owner| owner.copied);
        let sum = parts.sum::<Option<f64>>()?;
        Some(sum / self.owners.len().max(1) as f64)
    }

    /// How many owners to be have all that they should.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// for one in client.progress().await?.moves {
    ///     println!("partition {}: {} of {}", one.partition, one.over(), one.owners.len());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn over(&self) -> usize {
        let over = self.owners.iter().filter(|owner| owner.over == Some(true));
        over.count()
    }
}

impl Progress {
    /// Puts it together.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// // Both were asked for already, for something else.
    /// let (view, members) = (client.newest_view().await?, client.members().await);
    /// let progress = annulet::Progress::of(&view, &members);
    /// println!("{} lists move", progress.moves.len());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn of(view: &View, members: &[MemberStatus]) -> Self {
        // Members that cannot be planned for move nothing.
        let still_to_do = Forecast::of(view, &[], &stored(members)).ok();
        let moves: Vec<_> = {
            let told = told(members);
            let joint = view.table.joint.iter();
            joint.map(|joint| of_move(view, joint, &told)).collect()
        };
        let arriving = moves.iter().flat_map(|one| &one.owners);
        let arriving = arriving.filter(|owner| owner.is_new);
        let there: f64 = arriving.filter_map(|owner| owner.copied).sum();
        let moving = still_to_do.as_ref().map_or(0, |forecast| forecast.moving);
        let replicas_left = (moving as f64 - there).max(0.0);
        let bytes = still_to_do.as_ref().and_then(|one| one.moving_bytes);
        let part_left = replicas_left / (moving as f64).max(1.0);
        let reports = || members.iter().filter_map(|member| member.report.as_ref());
        let bytes_per_second = reports().map(|report| report.copied_bytes_per_second).sum();
        let ppm_per_second: u64 = reports().map(|report| report.copied_ppm_per_second).sum();
        let seconds = replicas_left * 1e6 / ppm_per_second.max(1) as f64;
        Self {
            moves,
            replicas_left,
            bytes_left: bytes.map(|bytes| (bytes as f64 * part_left) as u64),
            reordered_left: still_to_do.map_or(0, |forecast| forecast.reordered),
            bytes_per_second: reports().next().map(|_| bytes_per_second),
            seconds_left: (ppm_per_second > 0 || replicas_left == 0.0)
                .then_some(seconds.ceil() as u64),
        }
    }

    /// Whether nothing moves, and nothing is to move.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> annulet::Result<()> {
    /// # if std::env::var_os("ANNULET_SCENE").is_none() { return Ok(()) }
    /// # let client = annulet::Client::connect(annulet::Profile::find(None)?).await?;
    /// if !client.progress().await?.is_still() {
    ///     println!("wait before the next server is changed");
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.moves.is_empty() && self.replicas_left == 0.0 && self.reordered_left == 0
    }
}

/// What each server says of each partition; of others than those of the view's epoch it counts for
/// nothing.
type Told = BTreeMap<NodeId, BTreeMap<(u32, u64), CopyState>>;

fn told(members: &[MemberStatus]) -> Told {
    let told = members.iter().filter_map(|member| {
        let report = member.report.as_ref()?;
        let copies = report.copies.iter();
        let copies = copies.map(|state| ((state.partition, state.since), *state));
        Some((member.id, copies.collect()))
    });
    told.collect()
}

fn of_move(view: &View, joint: &Joint, told: &Told) -> MoveProgress {
    let since = view.table.lists_epoch(joint.partition);
    let current: BTreeSet<_> = current_lists(view, joint.partition)
        .into_iter()
        .flatten()
        .collect();
    let next: BTreeSet<_> = next_lists(view, joint).into_iter().flatten().collect();
    let owner = |id: NodeId| {
        let state = told
            .get(&id)
            .and_then(|of| of.get(&(joint.partition, since)));
        OwnerProgress {
            id,
            is_new: !current.contains(&id),
            copied: state.map(|state| match state.over {
                true => 1.0,
                false => f64::from(state.copied_ppm.min(1_000_000)) / 1e6,
            }),
            over: state.map(|state| state.over),
        }
    };
    let id = |index: usize| view.members.get(index).map(|member| member.id);
    let table = view.table.regions.iter().find(|t| t.region == joint.region);
    let from = table.into_iter().flat_map(|t| t.list(joint.partition));
    MoveProgress {
        partition: joint.partition,
        region: joint.region.clone(),
        from: from.filter_map(id).collect(),
        to: joint.next.iter().filter_map(|i| id(*i as usize)).collect(),
        owners: next.into_iter().map(owner).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulet_protocol::bucket::Bucket;
    use annulet_protocol::ids::ClusterId;
    use annulet_protocol::status::StatusReport;
    use annulet_protocol::view::{Member, MemberState};
    use annulet_ring::cluster::Plan;

    /// Four servers with as even a share as there is.
    fn planned(partitions: u32) -> View {
        let member = |id: u64| Member {
            id: NodeId(id),
            address: format!("host-{id}:7400"),
            capacity: 1,
            zone: String::new(),
            region: String::new(),
            state: MemberState::Active,
        };
        let plan = Plan {
            cluster: ClusterId([7; 16]),
            name: "test".into(),
            seed: 1,
            epoch: 1,
            value_bytes_max: 1_000,
            partitions,
            list_length: 3,
            members: (1..=4).map(member).collect(),
            buckets: vec![Bucket::new(1, "default")],
        };
        plan.view().unwrap()
    }

    /// Four servers, the last of which is to leave; partition 0 goes from it to the first.
    fn view() -> View {
        let mut view = planned(4);
        for (partition, list) in [[1, 2, 3], [0, 1, 2], [0, 1, 3], [0, 2, 3]]
            .iter()
            .enumerate()
        {
            view.table.regions[0].set(partition as u32, list);
        }
        view.members[3].state = MemberState::Leaving;
        view.epoch = 3;
        let joint = Joint {
            partition: 0,
            region: String::new(),
            next: vec![1, 2, 0],
        };
        view.table.open(joint, 3);
        view
    }

    fn says(id: u64, report: Option<StatusReport>) -> MemberStatus {
        MemberStatus {
            id: NodeId(id),
            address: String::new(),
            state: "up",
            capacity: 1,
            zone: String::new(),
            region: String::new(),
            share: 0.0,
            error: None,
            report,
        }
    }

    fn copied(since: u64, copied_ppm: u32, over: bool) -> StatusReport {
        StatusReport {
            stored_bytes: 300,
            copies: vec![CopyState {
                partition: 0,
                since,
                copied_ppm,
                over,
            }],
            ..StatusReport::default()
        }
    }

    #[test]
    fn a_move_is_as_far_as_its_owners_say() {
        let quick = StatusReport {
            copied_bytes_per_second: 40,
            copied_ppm_per_second: 250_000,
            ..copied(3, 500_000, false)
        };
        let members = [
            says(1, Some(quick)),
            says(2, Some(copied(3, 900_000, true))),
            says(3, Some(copied(3, 100_000, false))),
            says(4, None),
        ];
        let progress = Progress::of(&view(), &members);
        let [one] = &progress.moves[..] else {
            panic!("{progress:?}")
        };
        let ids = |ids: [u64; 3]| ids.map(NodeId).to_vec();
        assert_eq!((&one.from, &one.to), (&ids([2, 3, 4]), &ids([2, 3, 1])));
        assert_eq!((one.over(), one.owners[0].is_new), (1, true));
        assert!((one.copied().unwrap() - 1.6 / 3.0).abs() < 1e-9);
        // The ring doubles to 256 partitions. Three quarters of them go to somebody else, and half
        // of one is there.
        assert!(
            (progress.replicas_left - 191.5).abs() < 1e-9,
            "{progress:?}"
        );
        assert_eq!(progress.seconds_left, Some(766));
        assert_eq!(progress.bytes_left, Some(299));
        assert_eq!(progress.bytes_per_second, Some(40));
        assert!(!progress.is_still());
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        let members = [
            says(1, None),
            says(2, Some(copied(3, 1_000_000, true))),
            says(3, Some(copied(2, 1_000_000, true))),
        ];
        let progress = Progress::of(&view(), &members);
        let one = &progress.moves[0];
        assert_eq!(
            (one.copied(), one.over()),
            (None, 1),
            "of another epoch, too"
        );
        assert_eq!(progress.seconds_left, None, "nothing was copied lately");
        let progress = Progress::of(&view(), &[]);
        assert_eq!(progress.bytes_per_second, None);
        assert!((progress.replicas_left - 192.0).abs() < 1e-9);
    }

    #[test]
    fn where_nothing_moves_nothing_is_left() {
        let progress = Progress::of(&planned(256), &[]);
        assert!(progress.is_still(), "{progress:?}");
        assert_eq!(progress.seconds_left, Some(0));
    }
}
