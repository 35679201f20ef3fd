"""Functions of the end-to-end tests, and what calls them: `app.py WHAT`."""

import asyncio
import os
import socket
import sys
import threading
import time

from holdfast import HoldfastError, Image, function

environment = os.environ.get

image = Image(
    base_image=environment("IMAGE", ""),
    base_image_creds={
        "USERNAME": environment("USERNAME", ""),
        "PASSWORD": environment("PASSWORD", ""),
    },
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


def main():
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "ends":
        ends()
    elif what == "map":
        print(sum(double.map(range(100))))
    elif what == "submit":
        print(waits.submit(float(arguments[0])).id)
    elif what == "reaches":
        targets = [argument.rsplit(":", 1) for argument in arguments]
        print(reaches.remote([(host, int(port)) for host, port in targets]))
    else:
        print(globals()[what].remote(*arguments))


if __name__ == "__main__":
    main()
