"""Uses every name of `beta9` at its top, as programs do, and few of them in its functions."""

import copy
import pickle
from typing import List, Optional

import beta9
import beta9.schema
from beta9 import (
    Bot,
    GpuType,
    Image,
    Map,
    Output,
    Pod,
    PythonVersion,
    QueueDepthAutoscaler,
    Queue,
    RemoteExecutionError,
    Sandbox,
    TaskPolicy,
    Volume,
    asgi,
    endpoint,
    env,
    experimental,
    function,
    integrations,
    schedule,
    schema,
    task_queue,
)
from beta9.abstractions.image import Image as SameImage
from beta9.exceptions import RemoteExecutionError as SameError
from beta9.type import GpuType as SameGpuType

if env.is_remote() and not env.is_local():
    LOADED = True

image = (
    Image(python_version=PythonVersion.Python311)
    .add_python_packages(["torch"])
    .add_commands(["apt-get update"])
    .with_envs({"A": "1"})
)
registry_image = Image.from_registry("docker.io/library/python:3.12").build_with_gpu(GpuType.A10G)
volume = Volume(name="weights", mount_path="./weights")
queue = Queue(name="jobs")
settings = Map(name="settings")
pod = Pod(image=image, entrypoint=["sh"])
sandbox: Optional[Sandbox] = None
signal = experimental.Signal(name="reload", handler=print)
server = integrations.MCPServer(name="tools")
bot = Bot(model="m", locations=[beta9.BotLocation(marker=None)])


class Input(schema.Schema):
    prompt = schema.String()
    picture = beta9.schema.Image()


@bot.transition(inputs={"a": 1}, outputs=[])
def step(context, inputs: List[int]):
    return inputs


@endpoint(
    image=image,
    gpu=[GpuType.T4, "A10G"],
    volumes=[volume],
    autoscaler=QueueDepthAutoscaler(max_containers=3),
    task_policy=TaskPolicy(max_retries=3),
    inputs=Input,
)
def serve(number):
    return number + 1


@task_queue(image=registry_image, on_start=serve)
def work(number):
    return number + 2


@schedule(when="@hourly")
def tick():
    return "tick"


@asgi
def app():
    return None


@function
def describe():
    return {
        "plain": [serve(1), work.local(1), tick.remote(), app(), step(None, [1])],
        "kept": [volume.mount_path, TaskPolicy(max_retries=3).max_retries],
        "chained": isinstance(image, Image) and isinstance(registry_image, Image),
        "the same": [SameImage is Image, SameGpuType is GpuType, SameError is RemoteExecutionError],
        "members": [str(GpuType.T4), GpuType.T4 == GpuType.T4, GpuType.T4 == GpuType.L4],
        "copied": [type(copy.deepcopy(image)) is Image, type(pickle.loads(pickle.dumps(queue)))
                   is Queue],
        "truth": bool(queue) and bool(image),
        "an error": issubclass(RemoteExecutionError, Exception),
        "environment": [env.try_env("ABSENT", 3), env.called_on_import(), LOADED],
        "a field": Input(prompt="p").prompt,
        "all": sorted(name for name in beta9.__all__ if getattr(beta9, name) is None),
    }


REACHES = {
    "beta9.Queue.put": lambda: queue.put(1),
    "beta9.Map.__setitem__": lambda: settings.__setitem__("a", 1),
    "beta9.Map.__len__": lambda: len(settings),
    "beta9.Map.__iter__": lambda: iter(settings),
    "beta9.Volume.get_or_create": lambda: volume.get_or_create(),
    "beta9.Output.from_file": lambda: Output.from_file("f").save(),
    "beta9.Sandbox.connect": lambda: Sandbox.connect("id"),
    "beta9.Pod.create": lambda: pod.create(),
    "beta9.task_queue.put": lambda: work.put(1),
    "beta9.endpoint.serve": lambda: serve.serve(),
    "beta9.experimental.Signal.monitor": lambda: signal.monitor(),
}


def reach(name):
    return REACHES[name]()
