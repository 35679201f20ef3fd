"""`beta9.env`: where a program asks on which side it runs. This is the caller's side."""


def is_remote() -> bool:
    return False


def is_local() -> bool:
    return True
