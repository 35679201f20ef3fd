"""How a function is to run, checked where it is written: an error there names the argument.

Defaults are those of the gateway. Quantities come as users write them and leave in the units of the
wire: `cpu="500m"`, `memory="1Gi"`, seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from holdfast._hidden import Hidden
from holdfast._image import texts
from holdfast._secret import Secret

MEBIBYTE = 1 << 20
UNITS = {
    "": MEBIBYTE,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}
AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([A-Za-z]*)")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,199}")

LONGEST_S = 30 * 24 * 3600
"""A month. Longer is a mistake in the unit."""


@dataclass(frozen=True)
class Options:
    """The part of a function's definition that is numbers and names."""

    cpu_millicores: int
    memory_bytes: int
    timeout_ms: int
    retries: int
    concurrency: int
    keep_warm_ms: int
    max_containers: int
    max_pending: int
    environment: Hidden[Mapping[str, str]]
    secrets: tuple[Secret, ...] = field(default=())

    def as_json(self) -> dict[str, object]:
        """As the gateway takes it; environment values are in it in the clear."""
        return {
            "cpu_millicores": self.cpu_millicores,
            "memory_bytes": self.memory_bytes,
            "timeout_ms": self.timeout_ms,
            "retries": self.retries,
            "concurrency": self.concurrency,
            "keep_warm_ms": self.keep_warm_ms,
            "max_containers": self.max_containers,
            "max_pending": self.max_pending,
            "environment": dict(self.environment.reveal()),
            "secrets": [secret.name for secret in self.secrets],
        }


def options(
    *,
    cpu: float | str,
    memory: int | str,
    timeout: float,
    retries: int,
    concurrency: int,
    keep_warm: float,
    max_containers: int,
    max_pending: int,
    env: Hidden[Mapping[str, str] | None],
    secrets: Iterable[Secret | str],
) -> Options:
    """Options out of the arguments of `function`."""
    return Options(
        cpu_millicores=_cpu(cpu),
        memory_bytes=_memory(memory),
        timeout_ms=_milliseconds("timeout", timeout, least_ms=1),
        retries=_count("retries", retries, 0, 100),
        concurrency=_count("concurrency", concurrency, 1, 1000),
        keep_warm_ms=_milliseconds("keep_warm", keep_warm, least_ms=0),
        max_containers=_count("max_containers", max_containers, 1, 10_000),
        max_pending=_count("max_pending", max_pending, 1, 1_000_000),
        environment=texts("env", env),
        secrets=_secrets(secrets),
    )


def stub_name(name: str) -> str:
    """A name of a stub, as given by `name=`."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError("name has letters, digits and `_ . : / -`, up to 200 of them")
    return name


def _cpu(value: float | str) -> int:
    if isinstance(value, str):
        amount, unit = _amount("cpu", value)
        if unit not in ("", "m"):
            raise ValueError(f'cpu is cores, or "500m" for thousandths of one, and not {value!r}')
        millicores = amount if unit == "m" else amount * 1000
    else:
        millicores = _number("cpu", value) * 1000
    if not 1 <= millicores <= 1_000_000:
        raise ValueError(f"cpu is from 0.001 to 1000 cores, and not {value!r}")
    return round(millicores)


def _memory(value: int | str) -> int:
    if isinstance(value, str):
        amount, unit = _amount("memory", value)
        if unit not in UNITS:
            raise ValueError(f"memory is MiB, or a number with {', '.join(UNITS)[2:]}: {value!r}")
        size_bytes = round(amount * UNITS[unit])
    else:
        size_bytes = _count("memory", value, 1, 1 << 30) * MEBIBYTE
    if size_bytes < MEBIBYTE:
        raise ValueError(f"memory is at least 1Mi, and not {value!r}")
    return size_bytes


def _milliseconds(what: str, value: float, least_ms: int) -> int:
    seconds = _number(what, value)
    if not least_ms <= seconds * 1000 <= LONGEST_S * 1000:
        raise ValueError(f"{what} is in seconds, from {least_ms / 1000} to {LONGEST_S}: {value!r}")
    return round(seconds * 1000)


def _secrets(values: Iterable[Secret | str]) -> tuple[Secret, ...]:
    if isinstance(values, (str, Secret)):
        raise TypeError("secrets is a list")
    made = [value if isinstance(value, Secret) else Secret(value) for value in values]
    return tuple(dict.fromkeys(made))


def _amount(what: str, value: str) -> tuple[float, str]:
    found = AMOUNT.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{what} is a number, with or without a unit, and not {value!r}")
    return float(found[1]), found[2]


def _number(what: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number, and not {type(value).__name__}")
    return float(value)


def _count(what: str, value: int, least: int, most: int) -> int:
    if type(value) is not int:
        raise TypeError(f"{what} is a whole number, and not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{what} is from {least} to {most}, and not {value}")
    return value
