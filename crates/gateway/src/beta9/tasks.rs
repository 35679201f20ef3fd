//! Lists of calls, and calls that are stopped.

mod filter;

use std::collections::HashMap;
use std::vec;

use beta9_protocol::gateway::{
    ListTasksRequest, ListTasksResponse, StopTasksRequest, StopTasksResponse, Task,
};
use control_store::TaskFilter;
use ids::{StubId, TaskId};

use self::filter::{Filter, status};
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
    let filters = Filter::parse_all(&request.filters)?;
    let limit = match request.limit {
        0 => DEFAULT_LIMIT,
        limit if limit <= LIST_LIMIT => limit,
        _ => return Err(Problem::invalid(format!("limit is 1 to {LIST_LIMIT}"))),
    };
    let workspace = gateway.workspace(caller.workspace()).await?;
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
    Err(Problem::not_own(format!(
        "no task {unknown} in this workspace"
    )))
}

fn parse_task(text: &str) -> Result<TaskId, Problem> {
    parse_id(text, TaskId::parse_uuid, "no task has such an id")
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
