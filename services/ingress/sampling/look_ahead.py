"""Packets read ahead of decoding, and the frames that they promise.

Times are ticks: timestamps as the container counts them, integers in the stream's time base.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable

from services.ingress.sampling.timeline import Packet, display_duration

# A picture as large as this many of its kind shows something that the ones before it do not.
_LARGE_PICTURE = 3


class LookAhead:
    """Reads packets in decoding order and says what frames they promise, in order of presentation."""

    def __init__(
        self,
        packets: Iterable[Packet],
        *,
        nominal_duration: int,
        max_bytes: int,
        is_reference: Callable[[Packet], bool] | None = None,
    ) -> None:
        self.ended = False
        self.promised = 0  # frames, by all packets read
        self.regular = True  # all are whole, each has a pts of its own, and a dts, if any, that bounds those to come
        self.reordered = False  # some are presented before others that are decoded earlier
        self.upcoming: deque[Packet] = deque()  # read but not taken, in decoding order
        self.presented: list[int] = []  # the pts that they promise, ascending, from one before the frame now on display
        self._entry_points: list[int] = []  # the same of those where decoding can start
        self._references: list[int] = []  # the same of those that others may refer to, if it is asked
        self._packets = iter(packets)
        self._is_reference = is_reference
        self._nominal_duration = nominal_duration
        self._max_bytes = max_bytes
        self._horizon: int | None = None  # every frame presented before it is known
        self._last_duration = 0
        self._usual_bytes = 0.0  # of a picture that follows all others in both orders and is decoded from them
        self._likely_cuts: set[int] = set()
        self._lacks_pts = False
        self._delay = 0  # from decoding to presentation, of the first packet
        self._bytes = 0

    def skip_to(self, packets: Iterable[Packet]) -> None:
        """Go on with `packets`, which start at an entry point further on, in place of those not read yet."""
        self._packets = iter(packets)
        self.ended = False
        self.promised = 0
        self.upcoming.clear()
        self.presented.clear()
        self._entry_points.clear()
        self._references.clear()
        self._likely_cuts.clear()
        self._horizon = None
        self._last_duration = self._bytes = 0
        self._usual_bytes = 0.0

    def read_until(self, tick: int) -> bool:
        """Read until every frame presented before `tick` is known, or to the end; False: too many bytes to hold."""
        while not self.ended and (self._horizon is None or self._horizon < tick):
            if self._bytes > self._max_bytes:
                return False
            self._read()
        return True

    def first(self) -> int | None:
        """The pts of the first presented frame; to be asked before anything is forgotten."""
        while not self.presented and not self.ended:
            self._read()
        if not self.presented:
            return None
        self.read_until(self.presented[0])
        return self.presented[0]

    @property
    def starts_at_entry_point(self) -> bool:
        """Whether the first presented frame is sure to be decoded; to be asked after `first`."""
        packet = self.upcoming[0]
        return packet.entry_point and packet.pts is not None and packet.pts <= self.presented[0]

    def end(self) -> int | None:
        """Where the display of the last frame ends, as far as is known."""
        if not self.presented:
            return None
        if self._lacks_pts and self._horizon is not None:
            return self._horizon + (self._last_duration or self._nominal_duration) + self._delay
        gap = self.presented[-1] - self.presented[-2] if len(self.presented) > 1 else None
        return self.presented[-1] + display_duration(self._last_duration, gap, self._nominal_duration)

    def take(self) -> Packet | None:
        """The next packet in decoding order; None after the last."""
        while not self.upcoming and not self.ended:
            self._read()
        if not self.upcoming:
            return None
        packet = self.upcoming.popleft()
        self._bytes -= packet.size
        return packet

    def frame_at(self, tick: int) -> int:
        return self.presented[max(bisect_right(self.presented, tick) - 1, 0)]

    def cheap_frame_near(self, tick: int, earliest: int, latest: int) -> int:
        """The frame nearest to `tick`, from `earliest` to `latest`, that is decoded on its own. Without one, the frame
        on display then; if no other refers to that, the nearest that is decoded for the sake of others.
        """
        shown = self.frame_at(tick)
        if (entry_point := _nearest(self._entry_points, tick, earliest, latest)) is not None:
            return entry_point
        if contains(self._references, shown):
            return shown
        reference = _nearest(self._references, tick, earliest, latest)
        return shown if reference is None else reference

    def is_likely_cut(self, pts: int) -> bool:
        """Whether the picture is so large that a new shot is likely to begin shortly before it or with it."""
        return pts in self._likely_cuts

    @property
    def entry_points_ahead(self) -> int:
        """Among the packets read but not taken."""
        return sum(packet.entry_point for packet in self.upcoming)

    def first_from(self, tick: int) -> int:
        """The first frame presented at or after `tick`, or else the last."""
        return self.presented[min(bisect_left(self.presented, tick), len(self.presented) - 1)]

    def promised_before(self, tick: int) -> int:
        """Frames presented before `tick`, of which all packets have been read, and nothing after it is forgotten."""
        return self.promised - (len(self.presented) - bisect_left(self.presented, tick))

    def forget_before(self, pts: int) -> None:
        for times in (self.presented, self._entry_points, self._references):
            del times[: max(bisect_left(times, pts) - 1, 0)]
        self._likely_cuts = {cut for cut in self._likely_cuts if cut >= pts}

    def _read(self) -> None:
        packet = next(self._packets, None)
        if packet is None:
            self.ended = True
            return
        self.upcoming.append(packet)
        self._bytes += packet.size
        pts, dts = packet.pts, packet.dts
        self._lacks_pts |= pts is None
        if not self.presented and pts is not None and dts is not None:
            self._delay = pts - dts
        if dts is not None:
            in_order = self._horizon is None or dts > self._horizon
            self.regular &= in_order and (pts is None or dts <= pts)
            self._horizon = dts if in_order else self._horizon
        self.regular &= pts is not None and not packet.damaged
        time = pts if pts is not None else dts
        if time is None and self.presented:  # a guess
            time = self.presented[-1] + (self._last_duration or self._nominal_duration)
            self._horizon = time - self._delay
        if time is None or not packet.presented:
            return
        position = bisect_left(self.presented, time)
        self.reordered |= position < len(self.presented)
        if position < len(self.presented) and self.presented[position] == time:
            self.regular = False
            return
        if position == len(self.presented):
            self._last_duration = packet.duration
        self.presented.insert(position, time)
        if self._is_reference is not None and self._is_reference(packet):
            insort(self._references, time)
        if packet.entry_point:
            insort(self._entry_points, time)
        elif position == len(self.presented) - 1:
            if self._usual_bytes and packet.size > _LARGE_PICTURE * self._usual_bytes:
                self._likely_cuts.add(time)
            usual = self._usual_bytes or packet.size
            self._usual_bytes += (min(packet.size, 2 * usual) - self._usual_bytes) / (8 if self._usual_bytes else 1)
        self.promised += 1


def _nearest(ascending: list[int], tick: int, earliest: int, latest: int) -> int | None:
    """The one nearest to `tick`, if it is from `earliest` to `latest`."""
    place = bisect_left(ascending, tick)
    near = [pts for pts in ascending[max(place - 1, 0) : place + 1] if earliest <= pts <= latest]
    return min(near, key=lambda pts: abs(pts - tick), default=None)


def contains(ascending: list[int], value: int) -> bool:
    position = bisect_left(ascending, value)
    return position < len(ascending) and ascending[position] == value
