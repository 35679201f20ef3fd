"""Prints while it is imported."""

print("imported")


def function():
    return None
