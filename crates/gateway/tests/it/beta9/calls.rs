//! Calls of functions, as both clients make and lose them.

use beta9_protocol::function::{FunctionInvokeRequest, FunctionInvokeResponse};
use beta9_protocol::gateway::{GetOrCreateStubRequest, TaskPolicy};
use beta9_protocol::metadata::{LOG_OFFSET, TASK_ID};
use bytes::Bytes;
use control_store::{RegistrySettings, TokenScope};
use ids::{StubId, TaskId};
use registry_sim::{Login, RegistrySim};
use tonic::{Code, Status, Streaming};

use super::client::Beta9;
use crate::builds::{PASSWORD, USERNAME, registry};
use crate::support::Stage;
use crate::worker::{FakeWorker, TRACEBACK};

/// A function on a worker, and who calls it.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) worker: FakeWorker,
    pub(crate) beta9: Beta9,
    pub(crate) plain: GetOrCreateStubRequest,
    pub(crate) stub_id: String,
    /// Containers ask it whether they may read their image.
    pub(crate) sim: RegistrySim,
}

/// What a client says about coming back.
#[derive(Clone, Copy)]
pub(crate) enum Returning<'a> {
    /// 0.1.245 says nothing.
    Never,
    /// 0.1.291, the first time.
    Possible,
    /// And after its stream broke.
    To(&'a str, u64),
}

pub(crate) type Replies = Streaming<FunctionInvokeResponse>;

impl Scene {
    /// A function that is not tried again.
    pub(crate) async fn new() -> Self {
        let stage = Stage::new().await;
        let worker = FakeWorker::attach(&stage).await;
        Self::on(stage, worker).await
    }

    /// The same with this worker.
    pub(crate) async fn on(stage: Stage, worker: FakeWorker) -> Self {
        let keeping = RegistrySettings::default();
        Self::of(stage, worker, Login::Nobody, &[], keeping).await
    }

    /// The same with an image that wants a credential.
    pub(crate) async fn private(stage: Stage, worker: FakeWorker) -> Self {
        let credential = [("USERNAME", USERNAME), ("PASSWORD", PASSWORD)];
        let keeping = RegistrySettings::default();
        Self::of(stage, worker, Login::Basic, &credential, keeping).await
    }

    /// The same with a workspace whose workers may hold it.
    pub(crate) async fn lent(stage: Stage, worker: FakeWorker) -> Self {
        let credential = [("USERNAME", USERNAME), ("PASSWORD", PASSWORD)];
        let lending = RegistrySettings {
            workers_may_hold_password: true,
            ..RegistrySettings::default()
        };
        Self::of(stage, worker, Login::Basic, &credential, lending).await
    }

    async fn of(
        stage: Stage,
        worker: FakeWorker,
        login: Login,
        credential: &[(&str, &str)],
        settings: RegistrySettings,
    ) -> Self {
        let sim = registry(login).await;
        let caller = stage.caller("team", &TokenScope::ALL).await;
        let workspace = stage.workspace("team").await;
        let store = stage.broker.store();
        let said = store.put_settings(workspace, sim.host(), &settings);
        said.await.unwrap();
        let beta9 = Beta9::of(&stage, &caller);
        let plain = GetOrCreateStubRequest {
            task_policy: Some(TaskPolicy {
                timeout: 3600,
                ..Default::default()
            }),
            ..beta9.plain_with(&caller, &sim, credential).await
        };
        let stub_id = beta9.define(plain.clone()).await;
        Self {
            stage,
            worker,
            beta9,
            plain,
            stub_id,
            sim,
        }
    }

    /// Calls the function, which does as it is told.
    pub(crate) async fn invoke(&self, words: &str, returning: Returning<'_>) -> Replies {
        let request = FunctionInvokeRequest {
            stub_id: self.stub_id.clone(),
            args: Bytes::from(words.to_owned()),
            headless: false,
        };
        self.beta9.invoke(request, returning).await.unwrap()
    }
}

impl Beta9 {
    pub(crate) async fn invoke(
        &self,
        request: FunctionInvokeRequest,
        returning: Returning<'_>,
    ) -> Result<Replies, Status> {
        let mut request = self.ask(request);
        let metadata = request.metadata_mut();
        let pair = match returning {
            Returning::Never => None,
            Returning::Possible => Some((String::new(), 0)),
            Returning::To(task, offset) => Some((task.to_owned(), offset)),
        };
        if let Some((task, offset)) = pair {
            metadata.insert(TASK_ID, task.parse().unwrap());
            metadata.insert(LOG_OFFSET, offset.to_string().parse().unwrap());
        }
        let replies = self.function().function_invoke(request).await;
        replies.map(tonic::Response::into_inner)
    }
}

/// The first reply, which is the task's id and nothing else.
pub(crate) async fn announced(replies: &mut Replies) -> String {
    let first = replies.message().await.unwrap().unwrap();
    let expected = FunctionInvokeResponse {
        task_id: first.task_id.clone(),
        ..Default::default()
    };
    assert_eq!(first, expected);
    assert!(TaskId::parse_uuid(&first.task_id).is_ok());
    first.task_id
}

/// Waits until the call hangs in its container.
pub(crate) async fn hanging(replies: &mut Replies) {
    let reply = replies.message().await.unwrap().unwrap();
    assert_eq!(reply.output, "hanging\n");
}

/// What is printed until the end, and the last reply.
pub(crate) async fn rest(mut replies: Replies) -> (String, FunctionInvokeResponse) {
    let mut printed = String::new();
    loop {
        let reply = replies.message().await.unwrap().expect("the last is done");
        printed.push_str(&reply.output);
        if reply.done {
            assert!(replies.message().await.unwrap().is_none(), "it is the last");
            return (printed, reply);
        }
        assert_eq!((reply.exit_code, reply.result.len()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_announced_and_ends_with_its_result() {
    let scene = Scene::new().await;
    for returning in [Returning::Never, Returning::Possible] {
        let mut replies = scene.invoke("print h\u{e9}llo\n", returning).await;
        let task = announced(&mut replies).await;
        let (printed, last) = rest(replies).await;
        assert_eq!(printed, "h\u{e9}llo\n");
        assert_eq!((last.task_id, last.exit_code), (task, 0));
        assert_eq!(&*last.result, b"printed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_in_the_last_message() {
    let scene = Scene::new().await;
    for (words, code, text) in [
        ("raise", 1, TRACEBACK),
        ("die", 1, "it took more memory than it may\n"),
        (
            "long",
            1,
            "the result is 16777216 bytes long and may be 1 to 16711680\n",
        ),
        (
            "return ",
            1,
            "the result is 0 bytes long and may be 1 to 16711680\n",
        ),
    ] {
        let mut replies = scene.invoke(words, Returning::Possible).await;
        let task = announced(&mut replies).await;
        let (printed, last) = rest(replies).await;
        assert_eq!((last.exit_code, &*last.task_id), (code, &*task), "{words}");
        assert!(last.result.is_empty());
        assert_eq!(last.output, text, "in one with the end");
        assert_eq!(printed, text);
        // Who comes back with all of it is told nothing twice but the end.
        let seen = u64::try_from(printed.len()).unwrap();
        let mut again = scene.invoke(words, Returning::To(&task, seen)).await;
        assert_eq!(announced(&mut again).await, task);
        let (_, again) = rest(again).await;
        assert_eq!(again, last);
    }
    assert_eq!(scene.worker.calls(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_to_its_call_and_makes_no_other() {
    let scene = Scene::new().await;
    let mut replies = scene.invoke("wait", Returning::Possible).await;
    let task = announced(&mut replies).await;
    let begun = replies.message().await.unwrap().unwrap();
    assert_eq!(begun.output, "h\u{e9}llo ");
    drop(replies);
    let mut back = scene.invoke("wait", Returning::To(&task, 7)).await;
    assert_eq!(announced(&mut back).await, task);
    // The other stream may be half dead.
    let other = scene.invoke("wait", Returning::To(&task, 3)).await;
    scene.worker.go_on();
    let (printed, last) = rest(back).await;
    assert_eq!((&*printed, &*last.result), ("w\u{f6}rld\n", &b"late"[..]));
    assert_eq!(rest(other).await.0, "llo w\u{f6}rld\n");
    let late = scene.invoke("wait", Returning::To(&task, 10_000)).await;
    assert_eq!(rest(late).await, (String::new(), last));
    assert_eq!(scene.worker.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_call_of_ones_own_function_goes_on() {
    let scene = Scene::new().await;
    let mut replies = scene.invoke("return x", Returning::Possible).await;
    let task = announced(&mut replies).await;
    let other_stub = GetOrCreateStubRequest {
        cpu: 250,
        ..scene.plain.clone()
    };
    let other_stub = scene.beta9.define(other_stub).await;
    let theirs = scene.stage.caller("theirs", &TokenScope::ALL).await;
    let theirs = Beta9::of(&scene.stage, &theirs);
    let (unknown, id) = (
        TaskId::new().uuid().to_string(),
        StubId::new().uuid().to_string(),
    );
    let (own, stub) = (&scene.beta9, &scene.stub_id);
    for (beta9, stub, task, text) in [
        (own, stub, &*unknown, "no task task-"),
        (own, stub, "7", "no task has such an id"),
        (own, &other_stub, &task, "task "),
        (&theirs, stub, &task, "no task task-"),
        (own, &id, &task, "task "),
        (own, &id, "", "no stub stub-"),
        (&theirs, stub, "", "no stub stub-"),
    ] {
        let request = FunctionInvokeRequest {
            stub_id: stub.clone(),
            args: Bytes::from("return x"),
            headless: false,
        };
        let status = beta9
            .invoke(request, Returning::To(task, 0))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unknown, "{status:?}");
        assert!(status.message().starts_with(text), "{status:?}");
    }
    rest(replies).await;
    assert_eq!(scene.worker.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_come_back_ends_its_call_with_its_stream() {
    let scene = Scene::new().await;
    let mut replies = scene.invoke("hang", Returning::Never).await;
    let task = announced(&mut replies).await;
    hanging(&mut replies).await;
    drop(replies);
    scene.worker.cancelled(1).await;
    let mut ended = scene.invoke("", Returning::To(&task, 8)).await;
    announced(&mut ended).await;
    let (printed, last) = rest(ended).await;
    assert_eq!((last.exit_code, &*printed), (3, "the call was cancelled\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_goes_on_alone_needs_no_stream() {
    let scene = Scene::new().await;
    let request = FunctionInvokeRequest {
        stub_id: scene.stub_id.clone(),
        args: Bytes::from("wait"),
        headless: true,
    };
    let mut replies = scene.beta9.invoke(request, Returning::Never).await.unwrap();
    let task = announced(&mut replies).await;
    drop(replies);
    let back = scene.invoke("", Returning::To(&task, 0)).await;
    scene.worker.go_on();
    let (printed, last) = rest(back).await;
    assert_eq!(printed, "h\u{e9}llo w\u{f6}rld\n");
    assert_eq!(&*last.result, b"late");
}
