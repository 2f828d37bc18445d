//! How often each thing happened. What never happens is not tested, so a run over many seeds fails
//! when one of [`REQUIRED`] never did.

use annulet_protocol::message::RefusalKind;
use std::collections::BTreeMap;
use std::fmt;

/// Counts, by group and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

/// What must happen in a run over all seeds.
const REQUIRED: &[(&str, &[&str])] = &[
    (
        "operation",
        &[
            "read",
            "read_head",
            "read_digest",
            "read_hinted",
            "write_first_hand",
            "write_repair",
            "write_gone",
            "hint",
            "touch",
            "scan",
            "mint",
            "mint_hint",
            "merge",
            "merge_hint",
            "compare",
            "read_register",
            "prepare",
            "accept",
            "learn",
            "unknown",
        ],
    ),
    (
        "answer",
        &[
            "found",
            "found_head",
            "absent",
            "written",
            "superseded",
            "lacking",
            "page",
            "siblings",
            "bare_siblings",
            "minted",
            "promise",
            "accepted",
            "outbid",
            "unknown",
        ],
    ),
    ("failure", &["InvalidInput", "Overloaded", "WrongCluster"]),
    (
        "level",
        &[
            "one",
            "quorum",
            "all",
            "local_quorum",
            "each_quorum",
            "available",
            "explicit",
        ],
    ),
    (
        "call",
        &[
            "put",
            "large_put",
            "put_ttl",
            "delete",
            "get",
            "exists",
            "touch",
            "scan",
            "delete_under",
        ],
    ),
    (
        "strong call",
        &[
            "read",
            "exists",
            "stale_read",
            "put",
            "put_if_absent",
            "put_if_version",
            "delete",
            "delete_if_version",
            "touch",
            "resolve",
            "update_reads",
            "update_writes",
        ],
    ),
    (
        "strong",
        &[
            "clean_read",
            "round_read",
            "stale_read",
            "written",
            "updated",
            "update_again",
            "one_round_trip",
            "value_held",
            "another_round",
            "conflict",
            "not_applied",
            "unknown",
            "resolved_applied",
            "resolved_not_applied",
            "resolved_forgotten",
            "touched",
            "not_touched",
            "majority_lost",
        ],
    ),
    (
        "network",
        &[
            "request_lost",
            "reply_lost",
            "request_duplicated",
            "reply_duplicated",
            "delay_spike",
            "partition",
            "partition_one_way",
            "not_sent",
            "unanswered",
            "late_reply",
            "batch",
        ],
    ),
    (
        "fault",
        &[
            "crash",
            "crash_lost_writes",
            "power_failure",
            "stop",
            "stall",
            "slow_disk",
            "overload",
            "full_disk",
            "client_dies",
            "client_dies_mid_write",
            "client_dies_mid_round",
            "cancel",
            "damage",
            "perish",
            "server_clock_off",
            "server_clock_distrusted",
            "client_clock_off",
        ],
    ),
    (
        "view",
        &[
            "table_bumped",
            "bucket_added",
            "bucket_deleted",
            "joint",
            "joint_aborted",
            "closed",
            "arc_gained",
            "arc_lost",
            "ghosts",
            "fetched",
            "fetched_stale",
        ],
    ),
    (
        "chain",
        &[
            "attempt",
            "settled",
            "unsettled",
            "installed",
            "lost",
            "unreachable",
            "decided_already",
            "finished_for_others",
            "finished_later",
            "caught_up",
            "looked_up",
            "proposer_died",
            "acknowledged",
            "conflict",
            "change_given_up",
            "bucket_created",
            "bucket_set",
            "bucket_deleted",
        ],
    ),
    (
        "gate",
        &["write_waited", "read_waited", "async_answered_unsynced"],
    ),
    (
        "upkeep",
        &[
            "parcel",
            "delivered",
            "rerouted",
            "discarded",
            "removed",
            "expired",
            "restored",
            "siblings_restored",
            "siblings_expired",
            "compared",
            "sent_on",
            "spread",
            "confirmed",
            "copied",
            "vacated",
            "ready",
            "noted",
            "handed_over",
            "handed",
        ],
    ),
    (
        "path",
        &[
            "retry",
            "read_restarted",
            "write_restarted",
            "blocking_repair",
            "background_repair",
            "background_check",
            "fetch_for_exists",
            "asked_another",
            "write_went_on_after_ack",
            "bucket_was_deleted",
            "hint_after_ack",
            "hint_for_ack",
            "asked_fallback",
            "brought",
            "gone_brought",
            "cancelled",
            "cancelled_unsent",
            "touch_restarted",
            "scan_restarted",
            "scan_cut",
            "scan_unsettled",
            "siblings_read_restarted",
            "put_restarted",
            "round_restarted",
            "delete_restarted",
            "minted_by_fallback",
            "mint_retry",
            "mint_elsewhere",
            "siblings_hint",
            "background_merge",
            "blocking_merge",
            "session_widened",
            "session_handed_on",
        ],
    ),
    (
        "outcome",
        &[
            "found",
            "deleted",
            "expired",
            "absent",
            "written",
            "superseded",
            "written_by_hints_alone",
            "touched",
            "touch_superseded",
            "not_touched",
            "touch_failed",
            "touch_unknown",
            "scanned",
            "scan_failed",
            "no_sibling",
            "one_sibling",
            "concurrent_values",
            "siblings_exist",
            "minted",
            "minted_beside_others",
            "context_from_put",
            "siblings_deleted",
            "nothing_to_delete",
            "read_failed",
            "not_applied",
            "unknown",
            "invalid_input",
            "timeout",
            "overloaded",
            "unavailable",
        ],
    ),
];

/// What must happen in a run over all seeds in which members come and go.
const REQUIRED_OF_MEMBERS: &[(&str, &[&str])] = &[(
    "members",
    &[
        "joined",
        "replaced",
        "activated",
        "set",
        "told_to_leave",
        "left",
        "lost_one_gone",
        "silent_one_gone",
        "opened",
        "closed",
        "aborted_for_a_lost_one",
        "cut",
        "newcomer_copied",
        "crash_while_moving",
        "disk_lost",
        "disk_lost_while_copying",
        "client_from_before_a_join",
        "asked_one_that_left",
    ],
)];

impl Coverage {
    /// Counts something once.
    pub(crate) fn hit(&mut self, group: &'static str, name: &'static str) {
        *self.counts.entry((group, name)).or_default() += 1;
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            *self.counts.entry(*key).or_default() += count;
        }
    }

    /// What must happen and never did.
    pub fn missing(&self) -> Vec<String> {
        let refusals = RefusalKind::ALL
            .iter()
            .map(|kind| ("refusal", kind.as_str()));
        self.missing_of(pairs(REQUIRED).chain(refusals))
    }

    /// The same where members come and go.
    pub fn missing_of_members(&self) -> Vec<String> {
        self.missing_of(pairs(REQUIRED_OF_MEMBERS))
    }

    fn missing_of(
        &self,
        required: impl Iterator<Item = (&'static str, &'static str)>,
    ) -> Vec<String> {
        required
            .filter(|key| !self.counts.contains_key(key))
            .map(|(group, name)| format!("{group}: {name}"))
            .collect()
    }
}

/// Groups with each of their names.
fn pairs(
    required: &'static [(&'static str, &'static [&'static str])],
) -> impl Iterator<Item = (&'static str, &'static str)> {
    required
        .iter()
        .flat_map(|(group, names)| names.iter().map(move |name| (*group, *name)))
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for ((group, name), count) in &self.counts {
            let shown = if *group == last { "" } else { group };
            last = group;
            writeln!(f, "{shown:<11} {name:<26} {count:>10}")?;
        }
        Ok(())
    }
}
