//! annulet-server
