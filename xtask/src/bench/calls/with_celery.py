"""A Celery task that does nothing, and returns it by Redis. The worker loads this file, too."""

import os

import turns
from celery import Celery

app = Celery(broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])


@app.task(name="nothing")
def nothing(_number=None):
    return None


def call_all(count):
    for result in [nothing.delay(number) for number in range(count)]:
        result.get()


if __name__ == "__main__":
    turns.take(
        {
            "call": turns.one_by_one(lambda: nothing.delay().get()),
            "all": turns.together(call_all),
        }
    )
