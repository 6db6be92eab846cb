"""Parked chunk headers, which wait for a permit: bounded in number, served fairly by ingress."""

from bisect import insort
from collections import deque
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


# An ingress that parks its next header while at most this many others are served keeps its place in the round robin.
# An ingress with one chunk at a time parks the next only when that is done; by then other ingresses were served and
# permits granted ahead. Simulated: with 4, one of four ingresses at 2 saturated encoders gets 0.6 of its share; with
# more than 8, bursts wait longer.
_TURN_KEPT = 8


class ParkedHeaders(Generic[T]):
    """Round robin over ingresses, so that many headers of one do not starve another; within one, the oldest first.

    Bounded by `max_parked` in all and `max_per_ingress`. Pure: times are arguments.
    """

    def __init__(self, max_parked: int, max_per_ingress: int) -> None:
        self._max_parked = max_parked
        self._max_per_ingress = max_per_ingress
        # Sorted by age, equal ones by arrival.
        self._by_ingress: dict[str, list[tuple[float, int, T]]] = {}
        self._turns: dict[str, int] = {}  # of those that have headers; the smallest is next
        self._served: deque[tuple[str, int]] = deque(maxlen=_TURN_KEPT)  # the last ones, with the turns they got then
        self._numbers = count()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ingress: str, since: float, header: T) -> None:
        number = next(self._numbers)
        if ingress not in self._by_ingress:
            self._turns[ingress] = dict(self._served).get(ingress, number)
        insort(self._by_ingress.setdefault(ingress, []), (since, number, header))
        self._count += 1

    def pop(self) -> T:
        """Removes the header to be served next."""
        ingress = min(self._turns, key=self._turns.__getitem__)
        self._turns[ingress] = next(self._numbers)
        self._served.append((ingress, self._turns[ingress]))
        return self._remove(ingress, 0)

    def discard(self, ingress: str, header: T) -> None:
        """Removes a header that waits no longer, if it is still there."""
        for index, (_, _, parked) in enumerate(self._by_ingress.get(ingress, ())):
            if parked is header:
                self._remove(ingress, index)
                return

    def pop_all(self, ingress: str) -> list[tuple[float, T]]:
        """Removes the headers of `ingress`, each with the time at which its wait began."""
        headers = [(since, header) for since, _, header in self._by_ingress.get(ingress, ())]
        for _, header in headers:
            self.discard(ingress, header)
        return headers

    def pop_excess(self, ingress: str) -> T | None:
        """After `ingress` added a header: removes the one over a limit, None if there is none.

        It is the newest header of the ingress that has most, so an ingress with few headers is never refused for those
        of others.
        """
        if len(self._by_ingress.get(ingress, ())) > self._max_per_ingress:
            return self._remove(ingress, -1)
        if self._count > self._max_parked:
            most = max(self._by_ingress, key=lambda one: (len(self._by_ingress[one]), one == ingress))
            return self._remove(most, -1)
        return None

    def _remove(self, ingress: str, index: int) -> T:
        headers = self._by_ingress[ingress]
        _, _, header = headers.pop(index)
        if not headers:
            del self._by_ingress[ingress], self._turns[ingress]
        self._count -= 1
        return header
