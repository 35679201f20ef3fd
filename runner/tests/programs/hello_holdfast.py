"""A program as a user writes it."""

import os

from holdfast import Image, Secret, function, is_remote, task_id

token = os.environ.get("REGISTRY_TOKEN", "")


@function(
    image=Image(
        base_image="gcr.io/my-project/private:latest",
        base_image_creds={"USERNAME": "oauth2accesstoken", "PASSWORD": token},
    ),
    secrets=[Secret("API_KEY")],
)
def my_function():
    return "Hello!"


@function
def square(number):
    """The square of a number."""
    return number * number


@function(memory="1Gi")
async def square_later(number):
    return number * number


@function()
def all_ways():
    """Everything that a decorated function can do inside a container."""
    import asyncio

    async def ways():
        return [
            await square.remote_async(3),
            await square_later.remote_async(3),
            await square_later(3),
            [value async for value in square.map_async([1, 2])],
            [value async for value in square_later.map_async([1, 2])],
            # From a coroutine, on whose loop there is no waiting.
            square_later.remote(4),
        ]

    return [
        square(2),
        square.local(2),
        square.remote(2),
        list(square.map(range(3))),
        list(multiply.map([(2, 3), (4, 5)])),
        square_later.remote(2),
        list(square_later.map([1, 2])),
        asyncio.run(ways()),
        (square.__name__, square.__doc__, square.__wrapped__(5)),
        task_id() is not None,
        is_remote(),
    ]


@function(image=Image().add_python_packages(["numpy"]).add_commands(["true"]))
def multiply(left, right):
    return left * right


@function
def deploy():
    square.deploy(name="x")


if __name__ == "__main__":
    print(my_function.remote())
