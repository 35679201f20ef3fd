"""Which gateway, and with which token: from arguments, the environment, or a file.

    ~/.config/holdfast/config.toml          another place: $XDG_CONFIG_HOME/holdfast/config.toml
        current = "laptop"                  HOLDFAST_CONTEXT names another context
        [contexts.laptop]
        gateway = "http://127.0.0.1:7230"   HOLDFAST_GATEWAY wins
        token = "hf_…"                      HOLDFAST_TOKEN wins
        ca_file = "/etc/ssl/team.pem"       HOLDFAST_CA_FILE wins
        allow_plain_http = false            HOLDFAST_ALLOW_TOKEN_OVER_PLAIN_HTTP=1 wins

A context's token goes to that context's gateway and to no other, whatever the environment names;
its authority is trusted there alone, besides those of the machine. A token does not leave the
machine over plain HTTP unless somebody wrote that it may. `holdfast context` writes the file.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from holdfast._exceptions import ConfigurationError
from holdfast._hidden import Hidden

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_GATEWAY = "http://127.0.0.1:7230"
HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
TOKEN = re.compile(r"hf_[!-~]{1,1000}")
FILE_LIMIT_BYTES = 1 << 20
PLAIN_HTTP_SWITCH = "HOLDFAST_ALLOW_TOKEN_OVER_PLAIN_HTTP"
CONTEXT_FIELDS = {"gateway", "token", "ca_file", "allow_plain_http"}

UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
"""How OpenSSL says that a chain leads to nobody who is trusted."""

OTHER_NAME = {62, 64}
"""How it says that a certificate is for another host or address."""

ADVICE = (
    "`holdfast serve` makes one when it starts for the first time: it shows it on a terminal, and "
    "otherwise writes it to first-token in its data directory, /var/lib/holdfast; "
    "`holdfast tokens create NAME` makes another; put it into HOLDFAST_TOKEN, or into {file}"
)


@dataclass(frozen=True)
class Configuration:
    """A gateway and the token for it."""

    gateway: str
    """Without a slash at its end."""

    token: Hidden[str]

    ca_file: str | None = None
    """The authority that the gateway's certificate is of, besides those of the machine."""

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(urlsplit(self.gateway).hostname or "")


@dataclass(frozen=True)
class Context:
    """One of the file's contexts, or an empty one."""

    name: str = ""
    gateway: str | None = None
    token: Hidden[str] | None = None
    allow_plain_http: bool = False
    ca_file: str | None = None


def configuration(
    environment: Mapping[str, str],
    *,
    gateway: str | None = None,
    token: Hidden[str] | None = None,
    context: str | None = None,
    allow_plain_http: bool = False,
) -> Configuration:
    """What holds: arguments, then the environment, then the file, then the default."""
    path = file_path(environment)
    chosen = read_context(path, context or environment.get("HOLDFAST_CONTEXT") or None)
    # A context that was asked for is asked for with its gateway.
    variable = None if context else environment.get("HOLDFAST_GATEWAY")
    url = gateway_url(gateway or variable or chosen.gateway or DEFAULT_GATEWAY)
    of_context = chosen.gateway is not None and gateway_url(chosen.gateway) == url
    if token is None and context and of_context:
        token = chosen.token
    if token is None and environment.get("HOLDFAST_TOKEN"):
        token = Hidden(environment["HOLDFAST_TOKEN"].strip())
    if token is None and of_context:
        token = chosen.token
    if token is None:
        raise ConfigurationError(f"no token for {url}\nhint: {ADVICE.format(file=path)}")
    if not TOKEN.fullmatch(token.reveal()):
        raise ConfigurationError("the token is not one of the gateway's: they begin with hf_")
    allowed = (
        allow_plain_http
        or environment.get(PLAIN_HTTP_SWITCH) == "1"
        or (of_context and chosen.allow_plain_http)
    )
    ca_file = environment.get("HOLDFAST_CA_FILE") or (chosen.ca_file if of_context else None)
    found = Configuration(url, token, ca_file)
    if url.startswith("http:") and not found.is_loopback and not allowed:
        raise ConfigurationError(
            f"{url} is not on this machine, and over plain http everyone on the way reads the token"
            f"\nhint: use https, or set {PLAIN_HTTP_SWITCH}=1 where the network is trusted"
        )
    return found


def gateway_url(text: str) -> str:
    """A gateway's URL in one form, so that two can be compared."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError("the gateway is no URL") from None
    if parts.username is not None or parts.password is not None:
        # The text is not repeated: what is before the `@` may be a password.
        raise ConfigurationError("the gateway's URL has a user in it; give a token instead")
    if parts.scheme not in ("http", "https") or not host or not text.isprintable():
        raise ConfigurationError("the gateway is no URL of http or https")
    if ":" not in host and not HOST.fullmatch(host):
        raise ConfigurationError(
            f"the gateway's host {host!r} is no name of DNS\nhint: names in other scripts are "
            "written as DNS has them, beginning with xn--"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError("the gateway's URL has a query or a fragment")
    shown = f"[{host}]" if ":" in host else host
    default_port = 443 if parts.scheme == "https" else 80
    port_text = "" if port in (None, default_port) else f":{port}"
    return f"{parts.scheme}://{shown}{port_text}{parts.path.rstrip('/')}"


def trust(context: ssl.SSLContext, ca_file: str) -> None:
    """Has a connection trust the authorities of a file, besides those that it trusts already."""
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigurationError(f"{ca_file} holds no certificate authority in PEM") from None
    except OSError as error:
        raise ConfigurationError(f"{ca_file} cannot be read: {error.strerror}") from None


def distrusted(gateway: str, error: BaseException) -> ConfigurationError | None:
    """What to do about a gateway whose certificate is not trusted, if that is what is wrong."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    hint = "whoever runs the gateway can renew it; is the clock of this machine right?"
    if cause.verify_code in UNKNOWN_AUTHORITY:
        hint = (
            "where its authority is your own, name it (PEM) by HOLDFAST_CA_FILE, or by "
            "`holdfast context add --ca-file`"
        )
    elif cause.verify_code in OTHER_NAME:
        hint = "name the gateway as its certificate does"
    return ConfigurationError(
        f"the certificate of {gateway} is not trusted: {cause.verify_message}\nhint: {hint}"
    )


def file_path(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CONFIG_HOME") or ""
    directory = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return directory / "holdfast" / "config.toml"


def read_context(path: Path, name: str | None) -> Context:
    """The named context of a file, or its current one; an empty one where nothing is named."""
    content, is_private = _read(path)
    if content is None:
        if name is not None:
            raise ConfigurationError(f"no context {name!r}: there is no {path}")
        return Context()
    try:
        document: dict[str, Any] = tomllib.loads(content)
    except tomllib.TOMLDecodeError:
        # Its message may repeat a line, and the line may have the token.
        raise ConfigurationError(f"{path} is not TOML") from None
    name = name or document.get("current")
    if name is None:
        return Context()
    contexts = document.get("contexts")
    if not isinstance(contexts, dict) or name not in contexts:
        raise ConfigurationError(f"{path} has no context {name!r}")
    return _context(path, str(name), cast("dict[str, Any]", contexts)[name], is_private)


def _context(path: Path, name: str, value: object, is_private: bool) -> Context:
    where = f"context {name!r} of {path}"
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} is no table")
    table = cast("dict[str, Any]", value)
    unknown = sorted(set(table) - CONTEXT_FIELDS)
    if unknown:
        raise ConfigurationError(f"{where} has an unknown field {unknown[0]!r}")
    gateway = table.get("gateway")
    token: Hidden[Any] = Hidden(table.get("token"))
    allow_plain_http = table.get("allow_plain_http", False)
    if not isinstance(gateway, str) or type(allow_plain_http) is not bool:
        raise ConfigurationError(f"{where} needs a gateway; allow_plain_http is true or false")
    ca_file = table.get("ca_file")
    if ca_file is not None and not (isinstance(ca_file, str) and os.path.isabs(ca_file)):
        raise ConfigurationError(f"{where} has a ca_file that is no absolute path")
    if token.reveal() is None:
        return Context(name, gateway, None, allow_plain_http, ca_file)
    if not is_private:
        raise ConfigurationError(
            f"{path} has a token, and others can read it\nhint: chmod 600 {path}"
        )
    if not isinstance(token.reveal(), str):
        raise ConfigurationError(f"{where} has a token that is no text")
    return Context(name, gateway, token, allow_plain_http, ca_file)


def _read(path: Path) -> tuple[str | None, bool]:
    """A file's text, if there is one, and whether it is its owner's alone.

    What others than us and root can write is not believed."""
    try:
        with open(path, "rb") as file:
            # Of the open file, so that it is the one that is read.
            status = os.fstat(file.fileno())
            content = file.read(FILE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None, True
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_LIMIT_BYTES:
        raise ConfigurationError(f"{path} is longer than {FILE_LIMIT_BYTES} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8") from None
    if os.name != "posix":
        return text, True
    if status.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigurationError(f"{path} can be written by others\nhint: chmod 600 {path}")
    return text, not stat.S_IMODE(status.st_mode) & 0o077


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
