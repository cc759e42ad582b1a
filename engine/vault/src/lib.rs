//! (opening soon)
