//! annulet
