"""`beta9` inside a container, so that programs written for that client run as they are.

Every name that its package exports is here; what reaches its platform is refused when it is
called. Only names are taken from that package. It comes before any `beta9` of the image.
"""

from holdfast_runner.shims.namespace import add_alias, add_module, fill

ALIASES = (
    "abstractions",
    "abstractions.endpoint",
    "abstractions.function",
    "abstractions.image",
    "abstractions.map",
    "abstractions.output",
    "abstractions.pod",
    "abstractions.queue",
    "abstractions.sandbox",
    "abstractions.taskqueue",
    "abstractions.volume",
    "exceptions",
    "type",
)
"""Where programs import the same names from, too."""

fill(
    __name__,
    defined="env experimental integrations schema",
    decorators="asgi endpoint function realtime schedule task_queue",
    descriptions="""
        Bot BotContext BotEventType BotLocation CloudBucketConfig DatabaseServingConfig DurableDisk
        Gpu GpuType Image Pool PythonVersion QueueDepthAutoscaler Secret ServingConfig TaskPolicy
    """,
    platform="""
        Client CloudBucket Container Deployment ManagedEndpoint Map Output Pod Queue Sandbox
        SandboxFileInfo SandboxFilePosition SandboxFileSearchMatch SandboxFileSearchRange
        SandboxFileSearchResult SandboxFileSystem SandboxInstance SandboxProcess
        SandboxProcessManager SandboxProcessResponse SandboxProcessStream Service Task VM Volume
    """,
    exceptions="""
        ImageBuildError RemoteExecutionError SandboxConnectionError SandboxFileSystemError
        SandboxProcessError
    """,
)
add_module(
    "beta9.experimental",
    descriptions="Bot BotLocation BotTransition",
    platform="Signal",
)
add_module("beta9.integrations", descriptions="MCPServer MCPServerArgs")
add_module(
    "beta9.schema",
    descriptions="File Image Integer JSON Object Schema SchemaField String",
    exceptions="ValidationError",
)
for _name in ALIASES:
    add_alias("beta9." + _name, "beta9")

from beta9 import env  # noqa: E402 F401
