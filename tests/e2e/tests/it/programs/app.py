"""Functions of the end-to-end tests, and what calls them: `app.py WHAT`."""

import asyncio
import itertools
import os
import socket
import sys
import threading
import time
from pathlib import Path

from holdfast import HoldfastError, Image, function

environment = os.environ.get

image = Image(
    base_image=environment("IMAGE", ""),
    base_image_creds={
        "USERNAME": environment("USERNAME", ""),
        "PASSWORD": environment("PASSWORD", ""),
    },
    python=environment("IMAGE_PYTHON", "python3"),
)


@function(image=image)
def greet(name):
    print("greeting", name)
    return f"Hello, {name}!"


@function(image=image, keep_warm=0)
def cold():
    return os.getpid()


@function(image=image, concurrency=4)
async def double(number):
    await asyncio.sleep(0)
    return 2 * number


@function(image=image)
def ends_in(what):
    if what == "raise":
        raise KeyError("no such thing")
    if what == "exit":
        os._exit(7)
    if what == "lock":
        return threading.Lock()
    if what == "flood":
        for _ in range(2000):
            print("x" * 10_000)
    if what == "fork" and os.fork() == 0:
        os._exit(0)
    return what


@function(image=image, timeout=2)
def sleeps():
    time.sleep(600)


@function(image=image)
def waits(seconds):
    print("waiting", flush=True)
    time.sleep(seconds)
    return "waited"


@function(image=image)
def reads_later(seconds):
    print("waiting", flush=True)
    time.sleep(seconds)
    files = (path for path in Path("/usr/lib").rglob("*") if path.is_file())
    return sum(len(path.read_bytes()) for path in files)


kept = []


@function(image=image, keep_warm=60)
def is_a_neighbour(port, marker):
    """Leaves all that another container could find: sockets that listen, files, its argument."""
    for family, address in ((socket.AF_INET, ("", port)), (socket.AF_UNIX, f"\0{port}")):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.bind(address)
        listening.listen()
        kept.append(listening)
    for folder in ("/tmp", "/dev/shm", "/var/tmp"):
        Path(folder, f"{port}").write_text(marker)
    kept.append(marker)
    addresses = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(addresses), hunt(port, addresses, marker)


@function(image=image)
def hunts(port, addresses, marker_reversed):
    return hunt(port, addresses, marker_reversed[::-1])


def hunt(port, addresses, marker):
    found = []
    targets = [(socket.AF_INET, (address, port)) for address in (*addresses, "127.0.0.1")]
    for family, address in (*targets, (socket.AF_UNIX, f"\0{port}")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as hunting:
                hunting.settimeout(2)
                hunting.connect(address)
                found.append(address)
        except OSError:
            pass
    folders = ("/tmp", "/dev/shm", "/var/tmp", "/run", "/holdfast")
    files = [path for folder in folders for path in Path(folder).rglob("*")]
    files += [Path(process, name) for process in Path("/proc").glob("[0-9]*")
              for name in ("cmdline", "environ")]
    for path in files:
        try:
            if path.name == str(port) or marker.encode() in path.read_bytes():
                found.append(str(path))
        except OSError:
            pass
    return found


@function(image=image, secrets=["API_KEY"])
def shows_secret():
    return os.environ["API_KEY"][::-1]


@function(image=image)
def reaches(targets):
    reached = []
    for host, port in targets:
        try:
            with socket.create_connection((host, port), timeout=2):
                reached.append(host)
        except OSError:
            pass
    return reached


@function(image=image)
def looks_around():
    names = {name for name in os.environ if "TOKEN" in name or "HOLDFAST" in name}
    sockets = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            sockets.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return sorted(names), sum("socket" in name for name in sockets)


def ends():
    for what in ("raise", "exit", "lock", "flood", "fork"):
        show(what, lambda what=what: ends_in.remote(what))
    show("sleep", sleeps.remote)


def show(name, call):
    try:
        print(name, "->", call(), file=sys.stderr)
    except (HoldfastError, KeyError) as error:
        print(name, "->", type(error).__name__, file=sys.stderr)


def cold_again():
    """Calls once, and once more for each line."""
    for _ in itertools.chain([""], sys.stdin):
        try:
            cold.remote()
            print("called", flush=True)
        except HoldfastError as error:
            print(repr(str(error)), flush=True)


def main():
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "ends":
        ends()
    elif what == "cold_again":
        cold_again()
    elif what == "map":
        print(sum(double.map(range(100))))
    elif what == "neighbours":
        marker = os.urandom(16).hex()
        addresses, own = is_a_neighbour.remote(7007, marker)
        print(len(own), hunts.remote(7007, addresses, marker[::-1]))
    elif what == "reads_later":
        print(reads_later.remote(float(arguments[0])))
    elif what == "submit":
        print(waits.submit(float(arguments[0])).id)
    elif what == "reaches":
        targets = [argument.rsplit(":", 1) for argument in arguments]
        print(reaches.remote([(host, int(port)) for host, port in targets]))
    else:
        print(globals()[what].remote(*arguments))


if __name__ == "__main__":
    main()
