"""Network namespaces of a test's own, beside those of a stack."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from netbackend import namespaces

__all__ = ["one_namespace"]


@contextmanager
def one_namespace(label: str) -> Iterator[str]:
    """The name of a namespace that exists while the block runs; ``label`` tells it from a test's other ones."""
    name = namespaces.namespace_name(f"p{os.getpid()}", label)
    made = namespaces.create(name)
    try:
        yield name
    finally:
        namespaces.remove(name, made)
