"""What a type checker knows of decorated functions. It is checked by one, and never run."""

from collections.abc import AsyncIterator, Iterator

from typing_extensions import assert_type

from holdfast import Call, Function, Image, function


@function
def plain(number: int, name: str = "x") -> float:
    return number + len(name)


@function(image=Image("acme/app"), cpu="500m", memory="1Gi", secrets=["TOKEN"])
def with_options(number: int) -> list[int]:
    return [number]


@function
async def later(number: int) -> str:
    return str(number)


@function(format="json")
async def later_with_options(number: int) -> str:
    return str(number)


def calls() -> None:
    assert_type(plain.remote(1, name="y"), float)
    assert_type(plain.local(1), float)
    assert_type(plain(1), float)
    assert_type(plain.map([1, 2]), Iterator[float])
    assert_type(plain.submit(1), Call[float])
    assert_type(plain.submit(1).result(timeout=5), float)
    assert_type(with_options.remote(1), list[int])
    assert_type(later.remote(1), str)
    assert_type(later_with_options.remote(1), str)
    kept: Function[..., float, float] = plain
    assert_type(kept.remote(), float)


async def calls_later() -> None:
    assert_type(await plain.remote_async(1), float)
    assert_type(await later.remote_async(1), str)
    assert_type(await later(1), str)
    assert_type(await later.local(1), str)
    assert_type(await later_with_options.local(1), str)
    assert_type(later.map_async([1]), AsyncIterator[str])
    assert_type(await later.submit_async(1), Call[str])


def mistakes() -> None:
    plain.remote("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain.remote()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    function(cpus=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    function(format="yaml")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
