//! A first view from a list of members and buckets.

use crate::chain;
use crate::planner::{self, Candidate, Wish};
use annulet_protocol::bucket::Bucket;
use annulet_protocol::ids::ClusterId;
use annulet_protocol::table::{RegionTable, Table};
use annulet_protocol::view::{Member, Tip, View};

/// What a view is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its name for people.
    pub name: String,
    /// Seed of the key hash.
    pub seed: u64,
    /// The number that the view gets.
    pub epoch: u64,
    /// Longest value in bytes.
    pub value_bytes_max: u32,
    /// Arcs of the ring, a power of two.
    pub partitions: u32,
    /// Owners in each list, where there are so many members.
    pub list_length: usize,
    /// The servers, in any order.
    pub members: Vec<Member>,
    /// The buckets, in any order.
    pub buckets: Vec<Bucket>,
}

impl Plan {
    /// The view of this plan: the same on every machine, whatever the order of members.
    ///
    /// # Errors
    /// Says what of the plan cannot be, and what would be.
    pub fn view(mut self) -> Result<View, String> {
        self.members.sort_by_key(|member| member.id);
        self.buckets.sort_by_key(|bucket| bucket.number);
        let candidates: Vec<_> = self
            .members
            .iter()
            .map(|member| Candidate {
                capacity: member.capacity,
                zone: member.zone.clone(),
                region: member.region.clone(),
            })
            .collect();
        let wish = Wish {
            partitions: self.partitions,
            list_length: self.list_length,
        };
        let regions = planner::build(&candidates, &wish).map_err(|error| error.to_string())?;
        let members = self.members.len();
        let regions = regions.into_iter().map(|plan| {
            let length = plan.length as u8;
            RegionTable::new(&plan.region, length, members, plan.owners)
        });
        let view = View {
            cluster: self.cluster,
            name: self.name,
            seed: self.seed,
            epoch: self.epoch,
            value_bytes_max: self.value_bytes_max,
            members: self.members.into(),
            table: Table {
                partitions: self.partitions,
                epoch: self.epoch,
                list_length: u8::try_from(self.list_length).unwrap_or(u8::MAX),
                regions: regions.collect(),
                ..Table::default()
            },
            buckets: self.buckets,
            tip: Tip::default(),
        };
        let view = chain::begin(view);
        view.validate()?;
        Ok(view)
    }
}
