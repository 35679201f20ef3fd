"""A program that is written for another client."""

import os

from beta9 import Image, env, function

token = os.environ.get("REGISTRY_TOKEN", "")


@function(
    image=Image(
        base_image="gcr.io/my-project/private:latest",
        base_image_creds={"USERNAME": "oauth2accesstoken", "PASSWORD": token},
    ),
    cpu=1.0,
    memory="1Gi",
    gpu="",
)
def my_function(left=1, right=1):
    return f"Hello, {left + right} {env.is_remote()}!"


if __name__ == "__main__":
    print(my_function.remote(), my_function(2), *my_function.map([[2, 3], 4]))
