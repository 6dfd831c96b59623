"""Results that threads make ahead of their use, in the order of the tasks."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import TypeVar

__all__ = ["DECODERS", "REMOTE_DECODERS", "ahead", "read_ahead"]

DECODERS = 2
"""Row groups that are decoded at once: those of other tools take longer to decode than to fold."""

REMOTE_DECODERS = 4
"""Row groups that are fetched or decoded at once from a store, which takes its time to answer."""

Result = TypeVar("Result")


def ahead(tasks: Iterator[tuple[Callable[[], Result], int]], threads: int) -> Iterator[Result]:
    """Yield the results of tasks in their order; threads work on the next ones meanwhile.

    Parameters
    ----------
    tasks
        Pairs of a task and the number of results that may wait for their use from then on.
    threads
        Number of threads; with 0, or if the system has none left, the caller runs the tasks.
    """
    if not threads:
        yield from (task() for task, _ in tasks)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="latprof-decode") as pool:
        coming: deque[Future[Result]] = deque()
        try:
            for task, waiting in tasks:
                try:
                    coming.append(pool.submit(task))
                except RuntimeError:  # the system has no thread left
                    while coming:
                        yield coming.popleft().result()
                    yield task()
                    yield from ahead(tasks, 0)
                    return
                while len(coming) > waiting:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


def read_ahead(items: Iterator[Result]) -> Iterator[Result]:
    """Yield the items, which must not be None; a thread makes the next one meanwhile."""
    for item in ahead(repeat((partial(next, items, None), 1)), 1):
        if item is None:
            return
        yield item
