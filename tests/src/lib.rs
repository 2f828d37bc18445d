//! annulet-tests
