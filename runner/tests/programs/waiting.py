"""Functions that take long, or that end when they are told to; some tell that they have begun."""

import asyncio
import os
import signal
import time

import holdfast


def tell(path):
    """Lets the test know that the function has come here, by opening its pipe."""
    open(path, "w").close()


def spin(path):
    tell(path)
    while True:
        pass


def sleep(path):
    tell(path)
    time.sleep(600)


def sleep_stubbornly(path):
    """Ends its sleep when it is cancelled, and returns all the same."""
    try:
        sleep(path)
    except BaseException as error:
        return "woken by " + type(error).__name__


def sleep_and_tidy(path):
    try:
        sleep(path)
    finally:
        print("tidied")


async def sleep_later(path):
    tell(path)
    try:
        await asyncio.sleep(600)
    finally:
        print("tidied")


async def sleep_later_stubbornly(path):
    try:
        await sleep_later(path)
    except asyncio.CancelledError:
        return "woken"


def spin_forever():
    while True:
        pass


def count(limit):
    number = 0
    while number < limit:
        number += 1
    return number


async def count_later(limit):
    for _ in range(limit // 40):
        await asyncio.sleep(0)
    return limit


def count_and_print(limit):
    for number in range(limit // 40):
        print(number)
    return limit


def raise_cancelled():
    raise holdfast.Cancelled


async def raise_cancelled_later():
    raise asyncio.CancelledError


def end_when_terminated(path, code):
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(code))
    sleep(path)
