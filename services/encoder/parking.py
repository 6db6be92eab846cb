"""Chunk headers that wait for a permit: bounded in number, served fairly by ingress."""

from bisect import insort
from collections import OrderedDict
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class ParkedHeaders(Generic[T]):
    """The ingress served least recently is next, so that many headers do not starve few; its oldest header goes first.

    An ingress keeps its turn while it has no header: one with a single chunk at a time parks the next just after a
    permit was given away. Bounded by `max_parked` in all and `max_per_ingress`. Pure: times are passed in.
    """

    def __init__(self, max_parked: int, max_per_ingress: int) -> None:
        self._max_parked = max_parked
        self._max_per_ingress = max_per_ingress
        # Sorted by age, equal ones by arrival.
        self._by_ingress: dict[str, list[tuple[float, int, T]]] = {}
        self._served: OrderedDict[str, int] = OrderedDict()  # ingresses lately served, the last one at the end
        self._numbers = count()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ingress: str, since: float, header: T) -> None:
        insort(self._by_ingress.setdefault(ingress, []), (since, next(self._numbers), header))
        self._count += 1

    def pop(self) -> T:
        """Removes the header to be served next."""
        ingress = min(self._by_ingress, key=lambda one: self._served.get(one, -1))
        self._served[ingress] = next(self._numbers)
        self._served.move_to_end(ingress)
        if len(self._served) > self._max_parked:
            self._served.popitem(last=False)
        return self._remove(ingress, 0)

    def discard(self, ingress: str, header: T) -> None:
        """Removes a header that waits no longer, if it is still there."""
        for index, (_, _, parked) in enumerate(self._by_ingress.get(ingress, ())):
            if parked is header:
                self._remove(ingress, index)
                return

    def pop_excess(self, ingress: str) -> T | None:
        """After `ingress` added a header: removes the one over a limit, None if there is none.

        It is the newest header of the ingress that has most, so an ingress with few is not locked out by others.
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
            del self._by_ingress[ingress]
        self._count -= 1
        return header
