"""Prints what an installed `beta9` client puts on the wire, for the methods that a gateway serves.

Run by hand when another version of the client is to be held to, with a Python that has it:

    python3 -m venv /tmp/client && /tmp/client/bin/pip install beta9==VERSION
    /tmp/client/bin/python describe_client.py > client-VERSION.txt

The output is one fact a line, sorted; `tests/it/client.rs` compares it with what is declared here:

    method PATH REQUEST RESPONSE                  `stream:` stands before what is streamed
    field MESSAGE NUMBER NAME CARDINALITY TYPE    of every message that those methods reach
    value ENUM NUMBER NAME                        of every enumeration that those messages have

Nothing of the client's text is in it, and the client is not needed to run the test.
"""

import dataclasses
import datetime
import importlib
import importlib.metadata
import inspect
import sys
import typing

import betterproto

METHODS = {
    "gateway.GatewayService": [
        "Authorize",
        "ExportWorkspaceConfig",
        "HeadObject",
        "PutObjectStream",
        "CreateObject",
        "CreateObjectDelta",
        "GetOrCreateStub",
        "StartTask",
        "EndTask",
        "ListTasks",
        "StopTasks",
        "ListContainers",
        "StopContainer",
        "AttachToContainer",
        "CheckpointContainer",
        "CreateToken",
        "ListTokens",
        "ToggleToken",
        "DeleteToken",
    ],
    "image.ImageService": ["VerifyImageBuild", "BuildImage"],
    "function.FunctionService": ["FunctionInvoke", "FunctionSchedule"],
    "secret.SecretService": [
        "CreateSecret",
        "UpdateSecret",
        "DeleteSecret",
        "GetSecret",
        "ListSecrets",
    ],
    "volume.VolumeService": ["GetOrCreateVolume"],
}


class Recorder:
    """Stands before a generated stub's base class and notes the calls instead of making them."""

    def __init__(self):
        self.calls = {}

    def note(self, path, request, response, streams_in=False, streams_out=False):
        self.calls[path] = (request, streams_in, response, streams_out)
        return Silence()

    def _unary_unary(self, path, request, response):
        return self.note(path, request, response)

    def _unary_stream(self, path, request, response):
        return self.note(path, request, response, streams_out=True)

    def _stream_unary(self, path, request, response):
        return self.note(path, request, response, streams_in=True)

    def _stream_stream(self, path, request, response):
        return self.note(path, request, response, streams_in=True, streams_out=True)


class Silence:
    """What a recorded call answers: nothing, in every way that a stub may ask for it."""

    def __call__(self, _request):
        return iter(())

    def future(self, _requests):
        return self

    def result(self):
        return None


def calls_of(service):
    package, name = service.split(".")
    module = importlib.import_module(f"beta9.clients.{package}")
    stub = getattr(module, f"{name}Stub")
    recorder = type("RecordingStub", (Recorder, stub), {})()
    for method, function in vars(stub).items():
        if inspect.isfunction(function):
            for _ in getattr(recorder, method)(None) or ():
                pass
    return recorder.calls


def name_of(cls):
    if cls is datetime.datetime:
        return "google.protobuf.Timestamp"
    return f"{cls.__module__.removeprefix('beta9.clients.')}.{cls.__name__}"


def unwrapped(hint):
    """`List[X]`, `Optional[X]` and `Dict[K, X]` to `X`."""
    arguments = [a for a in typing.get_args(hint) if a is not type(None)]
    return unwrapped(arguments[-1]) if arguments else hint


def fields_of(cls):
    """A fact about each field, and the class of what is in it."""
    hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]))
    for field in dataclasses.fields(cls):
        meta = betterproto.FieldMetadata.get(field)
        hint = hints[field.name]
        inner = unwrapped(hint)

        def spelled(kind):
            return name_of(inner) if kind in ("message", "enum") else kind

        kind = spelled(meta.proto_type)
        if meta.proto_type == betterproto.TYPE_MAP:
            cardinality = "map"
            kind = f"{meta.map_types[0]},{spelled(meta.map_types[1])}"
        elif typing.get_origin(hint) is list:
            cardinality = "repeated"
        elif meta.group:
            cardinality = f"oneof:{meta.group}"
        else:
            cardinality = "optional" if meta.optional else "singular"
        yield f"field {name_of(cls)} {meta.number} {field.name} {cardinality} {kind}", inner


def values_of(cls):
    return (f"value {name_of(cls)} {member.value} {member.name}" for member in cls)


def main():
    facts, waiting, seen = set(), [], set()
    for service, methods in METHODS.items():
        calls = calls_of(service)
        for method in methods:
            call = calls.get(f"/{service}/{method}")
            if call is None:
                print(f"the client has no {service}/{method}", file=sys.stderr)
                continue
            request, streams_in, response, streams_out = call
            sides = [
                ("stream:" if streams else "") + name_of(side)
                for side, streams in ((request, streams_in), (response, streams_out))
            ]
            facts.add(f"method /{service}/{method} {' '.join(sides)}")
            waiting += [request, response]
    while waiting:
        message = waiting.pop()
        if message in seen:
            continue
        seen.add(message)
        for fact, inner in fields_of(message):
            facts.add(fact)
            if dataclasses.is_dataclass(inner):
                waiting.append(inner)
            elif issubclass(inner, betterproto.Enum):
                facts.update(values_of(inner))
    print(f"# beta9 {importlib.metadata.version('beta9')}, as describe_client.py sees it.")
    for fact in sorted(facts, key=in_order):
        print(fact)


def in_order(fact):
    """Methods first, then the fields and values of each type by number."""
    kind, name, number = fact.split()[:3]
    return (kind != "method", name, 0 if kind == "method" else int(number))


if __name__ == "__main__":
    main()
