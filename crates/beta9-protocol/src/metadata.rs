//! Names of the metadata that a client sends beside its requests, besides `authorization`.
//!
//! Only names: what a gateway makes of them is its own affair. 0.1.245 sends none of these.

/// Who calls: `cli/` and the client's version, or what its environment says.
pub const CALLER: &str = "x-beta9-caller";
/// One run of a program that calls on somebody's behalf; absent as a rule.
pub const AGENT_SESSION: &str = "x-beta9-agent-session";
/// One for all attempts at a call that is repeated when the connection fails.
pub const REQUEST_ID: &str = "x-beta9-request-id";
/// Request ids whose answer has arrived; up to 64 of them, each in an entry of its own.
pub const REQUEST_ACK: &str = "x-beta9-request-ack";
/// The task that `FunctionInvoke` goes on with. Empty in a first attempt, and never absent.
pub const TASK_ID: &str = "x-beta9-task-id";
/// How many bytes of that task's output have arrived.
pub const LOG_OFFSET: &str = "x-beta9-log-offset";
