//! annulet-ring
