//! The client's filters, whose keys are what users type, and its words for how a task stands.

use std::collections::BTreeMap;

use beta9_protocol::gateway::StringList;
use control_store::{Task, TaskOutcome, TaskState};
use ids::{ContainerId, StubId, TaskId};

use super::parse_task;
use crate::beta9::parse_id;
use crate::problem::Problem;

const COMPLETE: &str = "COMPLETE";
const ERROR: &str = "ERROR";
const PENDING: &str = "PENDING";
const RUNNING: &str = "RUNNING";
const CANCELLED: &str = "CANCELLED";
const RETRY: &str = "RETRY";
const TIMEOUT: &str = "TIMEOUT";
const STATUSES: [&str; 7] = [COMPLETE, ERROR, PENDING, RUNNING, CANCELLED, RETRY, TIMEOUT];

/// A task fits when it has one of the values.
#[derive(Debug)]
pub(super) enum Filter {
    Id(Vec<TaskId>),
    Status(Vec<&'static str>),
    Stub(Vec<StubId>),
    StubName(Vec<String>),
    Container(Vec<ContainerId>),
}

impl Filter {
    pub(super) fn parse_all(filters: &BTreeMap<String, StringList>) -> Result<Vec<Self>, Problem> {
        let filters = filters.iter();
        filters
            .map(|(key, list)| Self::parse(key, &list.values))
            .collect()
    }

    fn parse(key: &str, values: &[String]) -> Result<Self, Problem> {
        let values = values.iter().map(|value| value.trim());
        Ok(match key {
            "id" => Self::Id(values.map(parse_task).collect::<Result<_, _>>()?),
            "status" => Self::Status(values.map(parse_status).collect::<Result<_, _>>()?),
            "stub-id" => {
                let parse = |text| parse_id(text, StubId::parse_uuid, "no stub has such an id");
                Self::Stub(values.map(parse).collect::<Result<_, _>>()?)
            }
            "stub-name" => Self::StubName(values.map(str::to_owned).collect()),
            "container-id" => {
                let missing = "no container has such an id";
                let parse = |text| parse_id(text, ContainerId::parse_uuid, missing);
                Self::Container(values.map(parse).collect::<Result<_, _>>()?)
            }
            _ => {
                return Err(Problem::invalid(format!("no such filter: {key:?}"))
                    .hint("there are id, status, stub-id, stub-name and container-id"));
            }
        })
    }

    pub(super) fn fits(&self, task: &Task, stub_name: &str) -> bool {
        match self {
            Self::Id(ids) => ids.contains(&task.id),
            Self::Status(statuses) => statuses.contains(&status(task)),
            Self::Stub(stubs) => stubs.contains(&task.stub),
            // Clients put a type before the name that users know.
            Self::StubName(names) => {
                let short = stub_name
                    .split_once('/')
                    .map_or(stub_name, |(_, short)| short);
                names.iter().any(|name| name == stub_name || name == short)
            }
            Self::Container(containers) => {
                let own = task.container;
                own.is_some_and(|container| containers.contains(&container))
            }
        }
    }
}

fn parse_status(text: &str) -> Result<&'static str, Problem> {
    let known = STATUSES
        .iter()
        .find(|known| known.eq_ignore_ascii_case(text));
    known.copied().ok_or_else(|| {
        Problem::invalid("no such status").hint(format!("there are {}", STATUSES.join(", ")))
    })
}

/// How a task stands.
pub(super) fn status(task: &Task) -> &'static str {
    match (task.state, task.outcome) {
        (TaskState::Pending, _) if task.attempts > 0 => RETRY,
        (TaskState::Pending, _) => PENDING,
        (TaskState::Running, _) => RUNNING,
        (TaskState::Ended, Some(TaskOutcome::Returned)) => COMPLETE,
        (TaskState::Ended, Some(TaskOutcome::Cancelled)) => CANCELLED,
        (TaskState::Ended, Some(TaskOutcome::TimedOut | TaskOutcome::Expired)) => TIMEOUT,
        (TaskState::Ended, _) => ERROR,
    }
}
