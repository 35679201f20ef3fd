//! The mount process as a process: how it starts, waits, ends and dies.
