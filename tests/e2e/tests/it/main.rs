//! End-to-end tests of the `holdfast` binary.
