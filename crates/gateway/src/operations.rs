//! What can be asked of a gateway, a module for each noun. Faces call these and nothing else.

pub(crate) mod containers;
pub(crate) mod images;
pub(crate) mod objects;
pub(crate) mod secrets;
pub(crate) mod stubs;
pub(crate) mod tasks;
pub(crate) mod tokens;
pub(crate) mod workers;
