"""Prefetching: work in threads, a bounded number of items ahead of the caller.

In: a function and items. Out: its results, in order. Independent of what the items are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
Out_co = TypeVar("Out_co", covariant=True)


class Pending(Protocol[Out_co]):
    """A result that is being computed elsewhere, on a GPU for example."""

    def wait(self) -> Out_co:
        """Wait for the result. Raises what its computation raises."""


def prefetch(pool: ThreadPoolExecutor, work: Callable[[In], Out], items: Iterable[In], *, depth: int) -> Iterator[Out]:
    """`work` of each item, in order, `depth` of them under way while the caller uses one. Raises what `work` raises."""
    waiting: deque[Future[Out]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def pipelined(begin: Callable[[In], Pending[Out]], items: Iterable[In], *, depth: int) -> Iterator[tuple[In, Out]]:
    """Each item with the result of its `begin`, finished once `depth` more were begun; all in the caller's thread."""
    begun: deque[tuple[In, Pending[Out]]] = deque()
    for item in items:
        begun.append((item, begin(item)))
        if len(begun) > depth:
            first, pending = begun.popleft()
            yield first, pending.wait()
    while begun:
        first, pending = begun.popleft()
        yield first, pending.wait()


@contextmanager
def cancelling_pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that, after an error, finish their current item and start no other."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
