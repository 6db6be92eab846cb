from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Replica, Start


class FakeWorkplace:
    """Replicas that work; a draining one stays until the test calls `left`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.added: list[float] = []
        self.working: list[Replica] = []
        self.leaving: list[Replica] = []
        self.killed: list[Replica] = []

    def add(self, replica: Replica) -> None:
        self.added.append(self.clock.now)
        self.working.append(replica)

    def drain(self, replica: Replica) -> None:
        self.working.remove(replica)
        self.leaving.append(replica)

    def kill(self, replica: Replica) -> None:
        self.killed.append(replica)


def opened(start: Start, count: int = 0, grace: float = 30) -> tuple[Clock, Fleet, FakeWorkplace]:
    clock = Clock()
    fleet, workplace = Fleet(clock, start, count=count, grace_seconds=grace), FakeWorkplace(clock)
    fleet.open(workplace)
    return clock, fleet, workplace


def test_the_initial_replicas_are_ready():
    _, fleet, workplace = opened(Start(node=100, pull=60, load=20), count=2)

    assert (fleet.count, fleet.ready, workplace.added) == (2, 2, [0, 0])


def test_a_new_replica_waits_for_node_image_model_and_discovery():
    clock, fleet, workplace = opened(Start(node=100, pull=60, load=20, discovery=1))

    fleet.scale_to(1)
    clock.run(179)
    assert (fleet.count, fleet.ready) == (1, 0)
    clock.run(180)
    assert fleet.ready == 1
    clock.run(200)
    assert workplace.added == [181]


def test_replicas_that_are_not_ready_are_removed_first_then_the_newest():
    clock, fleet, workplace = opened(Start(load=10), count=1)
    fleet.scale_to(2)
    clock.run(11)
    first, second = workplace.working
    fleet.scale_to(3)

    fleet.scale_to(2)
    clock.run(30)
    assert workplace.working == [first, second]
    fleet.scale_to(1)
    assert workplace.working == [first]
    assert workplace.leaving == [second]


def test_a_node_is_paid_for_until_its_replica_has_drained():
    clock, fleet, workplace = opened(Start(load=10), count=1)
    clock.run(5)
    fleet.scale_to(2)
    clock.run(20)
    fleet.scale_to(1)
    assert (fleet.ready, fleet.draining) == (1, 1)
    clock.run(24)
    fleet.left(workplace.leaving[0])
    clock.run(100)

    assert fleet.draining == 0
    assert fleet.node_seconds == 100 + (24 - 5)


def test_a_node_is_paid_for_from_its_creation():
    clock, fleet, _ = opened(Start(node=100, load=10))

    fleet.scale_to(1)
    clock.run(150)

    assert fleet.node_seconds == 50


def test_a_replica_that_drains_for_too_long_is_killed():
    clock, fleet, workplace = opened(Start(), count=1, grace=30)

    fleet.scale_to(0)
    clock.run(29)
    assert workplace.killed == []
    clock.run(30)

    assert workplace.killed == workplace.leaving
    assert fleet.draining == 0
    assert fleet.node_seconds == 30


def test_a_replica_that_is_removed_before_it_is_ready_never_works():
    clock, fleet, workplace = opened(Start(load=10))
    fleet.scale_to(1)
    clock.run(5)

    fleet.scale_to(0)
    clock.run(100)

    assert (fleet.ready, workplace.added) == (0, [])
    assert fleet.node_seconds == 5


def test_a_draining_replica_stays_for_its_linger_time():
    clock = Clock()
    fleet, workplace = Fleet(clock, Start(), count=1, grace_seconds=30, linger_seconds=10), FakeWorkplace(clock)
    fleet.open(workplace)
    fleet.scale_to(0)
    clock.run(4)

    fleet.left(workplace.leaving[0])
    clock.run(9)
    assert fleet.draining == 1
    clock.run(100)

    assert fleet.draining == 0
    assert fleet.node_seconds == 10
