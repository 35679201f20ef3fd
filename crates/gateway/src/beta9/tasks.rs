//! Lists of calls by the client's filters, and calls that are stopped.

use std::collections::{BTreeMap, HashMap};
use std::vec;

use beta9_protocol::gateway::{
    ListTasksRequest, ListTasksResponse, StopTasksRequest, StopTasksResponse, StringList, Task,
};
use control_store::{TaskFilter, TaskOutcome, TaskState};
use ids::{ContainerId, StubId, TaskId};

use super::{parse_id, times};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::tasks::LIST_LIMIT;
use crate::problem::{Kind, Problem};

/// Tasks in a list of a client that does not say how many.
const DEFAULT_LIMIT: u32 = 100;
/// Tasks that are looked through for those that fit; older ones are not found by a filter.
const LOOKED_THROUGH: usize = 10_000;
/// Tasks that are stopped at once: many times what a client has under way.
const STOP_LIMIT: usize = 10_000;
const STATUSES: [&str; 7] = [
    "COMPLETE",
    "ERROR",
    "PENDING",
    "RUNNING",
    "CANCELLED",
    "RETRY",
    "TIMEOUT",
];

/// A task fits when it has one of the values.
#[derive(Debug)]
enum Filter {
    Id(Vec<TaskId>),
    Status(Vec<String>),
    Stub(Vec<StubId>),
    StubName(Vec<String>),
    Container(Vec<ContainerId>),
}

/// The names of functions, each looked up once.
struct Names<'a> {
    gateway: &'a Gateway,
    caller: &'a Caller,
    known: HashMap<StubId, String>,
}

pub(super) async fn list(
    gateway: &Gateway,
    caller: &Caller,
    request: ListTasksRequest,
) -> Result<ListTasksResponse, Problem> {
    let filters = parse_filters(&request.filters)?;
    let limit = match request.limit {
        0 => DEFAULT_LIMIT,
        limit if limit <= LIST_LIMIT => limit,
        _ => return Err(Problem::invalid(format!("limit is 1 to {LIST_LIMIT}"))),
    };
    let workspace = gateway.workspace(caller).await?;
    let mut names = Names {
        gateway,
        caller,
        known: HashMap::new(),
    };
    let mut candidates = Candidates::new(gateway, caller, &filters);
    let mut tasks = Vec::new();
    while tasks.len() < limit as usize {
        let Some(task) = candidates.next().await? else {
            break;
        };
        let stub_name = names.of(task.stub).await?;
        if filters.iter().all(|filter| filter.fits(&task, &stub_name)) {
            tasks.push(Task {
                workspace_id: workspace.id.uuid().to_string(),
                workspace_name: workspace.name.to_string(),
                ..shown(&task, stub_name)
            });
        }
    }
    Ok(ListTasksResponse {
        ok: true,
        total: i32::try_from(tasks.len()).unwrap_or(i32::MAX),
        tasks,
        ..Default::default()
    })
}

/// Stops what is known of them, and says what is not. The client shows the text in lower case.
pub(super) async fn stop(
    gateway: &Gateway,
    caller: &Caller,
    request: StopTasksRequest,
) -> Result<StopTasksResponse, Problem> {
    if request.task_ids.len() > STOP_LIMIT {
        return Err(Problem::invalid(format!(
            "at most {STOP_LIMIT} tasks are stopped at once"
        )));
    }
    let mut unknown = Vec::new();
    for text in &request.task_ids {
        let stopped = match parse_task(text) {
            Ok(id) => gateway.cancel(caller, id).await.map(drop),
            Err(problem) => Err(problem),
        };
        match stopped {
            Ok(()) => {}
            Err(problem) if problem.kind == Kind::NotFound => {
                unknown.push(format!("{text:?}"));
            }
            Err(problem) => return Err(problem),
        }
    }
    if unknown.is_empty() {
        return Ok(StopTasksResponse {
            ok: true,
            ..Default::default()
        });
    }
    let unknown = unknown.join(", ");
    Err(Problem::not_found(format!(
        "no task {unknown} in this workspace"
    )))
}

fn parse_task(text: &str) -> Result<TaskId, Problem> {
    parse_id(text, TaskId::parse_uuid, "no task has such an id")
}

fn parse_filters(filters: &BTreeMap<String, StringList>) -> Result<Vec<Filter>, Problem> {
    filters
        .iter()
        .map(|(key, list)| Filter::parse(key, &list.values))
        .collect()
}

impl Filter {
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

    fn fits(&self, task: &control_store::Task, stub_name: &str) -> bool {
        match self {
            Self::Id(ids) => ids.contains(&task.id),
            Self::Status(statuses) => statuses.iter().any(|wanted| wanted == status(task)),
            Self::Stub(stubs) => stubs.contains(&task.stub),
            // Clients put a type before the name that users know.
            Self::StubName(names) => {
                let short = stub_name
                    .split_once('/')
                    .map_or(stub_name, |(_, short)| short);
                names.iter().any(|name| name == stub_name || name == short)
            }
            Self::Container(containers) => task
                .container
                .is_some_and(|container| containers.contains(&container)),
        }
    }
}

fn parse_status(text: &str) -> Result<String, Problem> {
    let status = text.to_ascii_uppercase();
    if STATUSES.contains(&&*status) {
        return Ok(status);
    }
    Err(Problem::invalid("no such status").hint(format!("there are {}", STATUSES.join(", "))))
}

/// Tasks that may fit: those that are named, or all of the workspace, newest first.
struct Candidates<'a> {
    gateway: &'a Gateway,
    caller: &'a Caller,
    named: Option<vec::IntoIter<TaskId>>,
    page: vec::IntoIter<control_store::Task>,
    /// Where the next page begins.
    before: Option<TaskId>,
    is_last_page: bool,
    looked_through: usize,
}

impl<'a> Candidates<'a> {
    fn new(gateway: &'a Gateway, caller: &'a Caller, filters: &[Filter]) -> Self {
        let named = filters.iter().find_map(|filter| match filter {
            Filter::Id(ids) => Some(ids.clone().into_iter()),
            _ => None,
        });
        Self {
            gateway,
            caller,
            named,
            page: Vec::new().into_iter(),
            before: None,
            is_last_page: false,
            looked_through: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<control_store::Task>, Problem> {
        if let Some(named) = &mut self.named {
            for id in named.by_ref() {
                match self.gateway.task(self.caller, id).await {
                    Ok(task) => return Ok(Some(task)),
                    Err(problem) if problem.kind == Kind::NotFound => {}
                    Err(problem) => return Err(problem),
                }
            }
            return Ok(None);
        }
        if self.looked_through >= LOOKED_THROUGH {
            return Ok(None);
        }
        self.looked_through += 1;
        if let Some(task) = self.page.next() {
            return Ok(Some(task));
        }
        self.turn_page().await?;
        Ok(self.page.next())
    }

    async fn turn_page(&mut self) -> Result<(), Problem> {
        if self.is_last_page {
            return Ok(());
        }
        let filter = TaskFilter {
            stub: None,
            state: None,
            before: self.before,
            limit: LIST_LIMIT,
        };
        let page = self.gateway.tasks(self.caller, &filter).await?;
        self.before = page.last().map(|task| task.id);
        self.is_last_page = page.len() < LIST_LIMIT as usize;
        self.page = page.into_iter();
        Ok(())
    }
}

impl Names<'_> {
    async fn of(&mut self, stub: StubId) -> Result<String, Problem> {
        if let Some(name) = self.known.get(&stub) {
            return Ok(name.clone());
        }
        let name = self.gateway.stub(self.caller, stub).await?.stub.name;
        self.known.insert(stub, name.clone());
        Ok(name)
    }
}

fn shown(task: &control_store::Task, stub_name: String) -> Task {
    let at = |moment: Option<_>| Some(moment.map_or(times::UNKNOWN, times::at));
    let changed_at = task.ended_at.or(task.started_at).unwrap_or(task.created_at);
    Task {
        id: task.id.uuid().to_string(),
        status: status(task).to_owned(),
        container_id: task
            .container
            .map(|id| id.uuid().to_string())
            .unwrap_or_default(),
        started_at: at(task.started_at),
        ended_at: at(task.ended_at),
        stub_id: task.stub.uuid().to_string(),
        stub_name,
        created_at: at(Some(task.created_at)),
        updated_at: at(Some(changed_at)),
        ..Default::default()
    }
}

fn status(task: &control_store::Task) -> &'static str {
    match (task.state, task.outcome) {
        (TaskState::Pending, _) if task.attempts > 0 => "RETRY",
        (TaskState::Pending, _) => "PENDING",
        (TaskState::Running, _) => "RUNNING",
        (TaskState::Ended, Some(outcome)) => match outcome {
            TaskOutcome::Returned => "COMPLETE",
            TaskOutcome::Cancelled => "CANCELLED",
            TaskOutcome::TimedOut | TaskOutcome::Expired => "TIMEOUT",
            TaskOutcome::Raised
            | TaskOutcome::Died
            | TaskOutcome::Lost
            | TaskOutcome::NotStarted => "ERROR",
        },
        (TaskState::Ended, None) => "ERROR",
    }
}
