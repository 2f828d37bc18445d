//! annulet-replica
