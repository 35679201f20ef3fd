"""The runner: loads one function inside a user's container and calls it when it is told to.

In reading order: `start` (descriptor, fork, hello) and `init` (process 1); `serve` (from setup
to the end), `messages` over `framing`, `outbox`; `load`, `unpack`; `calls`, `cancellation`,
`loop`, `payloads`; `exceptions`, `errors`; `output`; `process`, `current`; and `shims`, which
`holdfast` and `beta9` are made of.

Nothing here trusts the image to have anything but Python 3.8 or later and its standard library.
"""
