"""The same program, as it is written for another client."""

import os

from beta9 import Image, function

token = os.environ.get("REGISTRY_TOKEN", "")


@function(
    image=Image(
        base_image="gcr.io/my-project/private:latest",
        base_image_creds={"USERNAME": "oauth2accesstoken", "PASSWORD": token},
    )
)
def my_function():
    return "Hello!"


if __name__ == "__main__":
    print(my_function.remote())
