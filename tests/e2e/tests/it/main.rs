//! The real binary against a real registry, as a user would.

mod bad_input;
mod beta9_client;
mod bounds;
mod canaries;
mod chaos;
mod clouds;
mod contexts;
mod docker;
mod ending;
mod foreign_text;
mod functions;
mod hard_stops;
mod hostile_image;
mod hostile_registry;
mod json;
mod keeper;
mod least;
mod machines;
mod patience;
mod possession;
mod run;
mod serve;
mod serving;
mod support;
mod vault;
mod workers;
