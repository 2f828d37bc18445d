//! annulet-protocol
