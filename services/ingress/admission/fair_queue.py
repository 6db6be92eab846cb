"""A line in which nobody's many keep another's one waiting."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Share:
    """On whose account something waits: a caller's, and among what that caller wants, a video's."""

    caller: str
    video: int
    batch: bool = False  # goes only where nobody interactive waits


class FairQueue(Generic[T]):
    """Callers take turns, within a caller videos take turns, and of one video the first that came is the first to go.

    What is interactive goes before what is batch, whoever's it is.
    """

    def __init__(self) -> None:
        self._interactive: _Turns[T] = _Turns()
        self._batch: _Turns[T] = _Turns()

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    def push(self, share: Share, item: T) -> None:
        self._turns(share).push(share, item)

    def pop(self, *, batch: bool = True) -> tuple[Share, T] | None:
        """The next; None if there is none, or, without `batch`, none that is interactive."""
        if self._interactive:
            return self._interactive.pop()
        return self._batch.pop() if batch and self._batch else None

    def discard(self, share: Share, item: T) -> None:
        """Take out what does not wait any longer, if it is still there."""
        self._turns(share).discard(share, item)

    def ahead_of(self, share: Share) -> int:
        """How many would go before another one of `share`, if nobody else came."""
        before = self._turns(share).ahead_of(share.caller)
        return before + len(self._interactive) if share.batch else before

    def push_out(self, share: Share) -> T | None:
        """Make room for another one of `share`: takes out the newest of whoever has most waiting.

        None if `share` has the better claim over nobody: batch over interactive, or a caller over one with no more.
        """
        if self._batch and not share.batch:
            return self._batch.pop_newest()
        turns = self._turns(share)
        return turns.pop_newest() if turns.most_of_one() > turns.count_of(share.caller) + 1 else None

    def _turns(self, share: Share) -> "_Turns[T]":
        return self._batch if share.batch else self._interactive


class _Turns(Generic[T]):
    """The next turn is that of the first caller, and of its first video; whoever has had it goes to the end."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, OrderedDict[int, deque[tuple[Share, T]]]] = OrderedDict()
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def push(self, share: Share, item: T) -> None:
        videos = self._callers.setdefault(share.caller, OrderedDict())
        videos.setdefault(share.video, deque()).append((share, item))
        self._counts[share.caller] = self.count_of(share.caller) + 1

    def pop(self) -> tuple[Share, T]:
        caller, videos = next(iter(self._callers.items()))
        video, items = next(iter(videos.items()))
        share, item = items.popleft()
        self._callers.move_to_end(caller)
        videos.move_to_end(video)
        self._forget_one(share)
        return share, item

    def discard(self, share: Share, item: T) -> None:
        if (share, item) in (items := self._items(share)):
            items.remove((share, item))
            self._forget_one(share)

    def pop_newest(self) -> T:
        """Of the caller with most, the last of the video that came last."""
        caller = max(self._counts, key=lambda name: self._counts[name])
        share = max((items[-1][0] for items in self._callers[caller].values()), key=lambda share: share.video)
        _, item = self._items(share).pop()
        self._forget_one(share)
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

    def _forget_one(self, share: Share) -> None:
        videos = self._callers[share.caller]
        if not videos[share.video]:
            del videos[share.video]
        if not videos:
            del self._callers[share.caller]
        self._counts[share.caller] -= 1
        if not self._counts[share.caller]:
            del self._counts[share.caller]
