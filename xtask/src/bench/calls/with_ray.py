"""A Ray task and a method of a Ray actor that do nothing."""

import os

import ray
import turns


@ray.remote
def nothing(_number=None):
    return None


@ray.remote
class Actor:
    def nothing(self, _number=None):
        return None


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=os.environ["RAY_FOLDER"],
    )
    try:
        actor = Actor.remote()
        turns.take(
            {
                "task": turns.one_by_one(lambda: ray.get(nothing.remote())),
                "method": turns.one_by_one(lambda: ray.get(actor.nothing.remote())),
                "tasks": turns.together(
                    lambda count: ray.get([nothing.remote(number) for number in range(count)])
                ),
                "methods": turns.together(
                    lambda count: ray.get([actor.nothing.remote(number) for number in range(count)])
                ),
            }
        )
    finally:
        ray.shutdown()
