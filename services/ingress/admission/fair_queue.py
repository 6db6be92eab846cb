"""A fair queue: callers are served round robin, however many items one of them has waiting."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """The properties of a request that determine its admission and its place in the queue."""

    caller: str
    video: int
    batch: bool = False  # served only when nothing interactive waits
    # Of the caller at a time; None for what all callers may have.
    max_running: int | None = None
    max_waiting: int | None = None


class FairQueue(Generic[T]):
    """Round robin over callers, within a caller over videos, and first come, first served within a video.

    Interactive items go before batch items, whichever caller they belong to.
    """

    def __init__(self) -> None:
        self._interactive: _RoundRobin[T] = _RoundRobin()
        self._batch: _RoundRobin[T] = _RoundRobin()

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    def push(self, share: Share, item: T) -> None:
        self._queue_of(share).push(share, item)

    def pop(self, may_start: Callable[[Share], bool] = lambda _: True) -> tuple[Share, T] | None:
        """The next item of those that may start; None if there is none."""
        return self._interactive.pop(may_start) or self._batch.pop(may_start)

    def discard(self, share: Share, item: T) -> None:
        """Removes an item that no longer waits, if it is still there."""
        self._queue_of(share).discard(share, item)

    def ahead_of(self, share: Share) -> int:
        """How many items would go before a new one of `share`, if no others came."""
        before = self._queue_of(share).ahead_of(share.caller)
        return before + len(self._interactive) if share.batch else before

    def count_of(self, caller: str) -> int:
        return self._interactive.count_of(caller) + self._batch.count_of(caller)

    def evict_for(self, share: Share) -> T | None:
        """Removes an item in favour of a new one of `share`: batch before interactive, else the newest of the
        caller with most items.

        None if `share` has precedence over no other: it is batch, or its caller would then have as many itself.
        """
        if self._batch and not share.batch:
            return self._batch.pop_newest()
        queue = self._queue_of(share)
        return queue.pop_newest() if queue.most_of_one() > queue.count_of(share.caller) + 1 else None

    def _queue_of(self, share: Share) -> "_RoundRobin[T]":
        return self._batch if share.batch else self._interactive


class _RoundRobin(Generic[T]):
    """The next item is that of the first caller, and of its first video; both then move to the end."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, OrderedDict[int, deque[tuple[Share, T]]]] = OrderedDict()
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def push(self, share: Share, item: T) -> None:
        videos = self._callers.setdefault(share.caller, OrderedDict())
        videos.setdefault(share.video, deque()).append((share, item))
        self._counts[share.caller] = self.count_of(share.caller) + 1

    def pop(self, may_start: Callable[[Share], bool]) -> tuple[Share, T] | None:
        for caller, videos in self._callers.items():
            video, items = next(iter(videos.items()))
            if may_start(items[0][0]):
                share, item = items.popleft()
                self._callers.move_to_end(caller)
                videos.move_to_end(video)
                self._count_removed(share)
                return share, item
        return None

    def discard(self, share: Share, item: T) -> None:
        if (share, item) in (items := self._items(share)):
            items.remove((share, item))
            self._count_removed(share)

    def pop_newest(self) -> T:
        """Of the caller with most items, the last one of its newest video."""
        caller = max(self._counts, key=lambda name: self._counts[name])
        share = max((items[-1][0] for items in self._callers[caller].values()), key=lambda share: share.video)
        _, item = self._items(share).pop()
        self._count_removed(share)
        return item

    def most_of_one(self) -> int:
        return max(self._counts.values(), default=0)

    def count_of(self, caller: str) -> int:
        return self._counts.get(caller, 0)

    def ahead_of(self, caller: str) -> int:
        own = self.count_of(caller)
        return sum(min(count, own if name == caller else own + 1) for name, count in self._counts.items())

    def _items(self, share: Share) -> "deque[tuple[Share, T]]":
        videos = self._callers.get(share.caller, OrderedDict())
        return videos.get(share.video, deque())

    def _count_removed(self, share: Share) -> None:
        videos = self._callers[share.caller]
        if not videos[share.video]:
            del videos[share.video]
        if not videos:
            del self._callers[share.caller]
        self._counts[share.caller] -= 1
        if not self._counts[share.caller]:
            del self._counts[share.caller]
