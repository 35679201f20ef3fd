"""What `holdfast` and `beta9` are made of inside a container.

A user's program imports one of them at its top, decorates functions and describes images. Here all
of that has happened already: `functions` keeps decorated functions callable, `placeholders` lets
descriptions be written down and refuses what only a client can do, `namespace` makes modules of
names. Written for this runner; of other clients only the names are taken.
"""
