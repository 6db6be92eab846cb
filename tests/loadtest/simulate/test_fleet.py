from loadtest.simulate.clock import Clock
from loadtest.simulate.fleet import Fleet, Replica, Start


class Hall:
    """Replicas that are at work; a draining one stays until it is told to leave."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.came: list[float] = []
        self.working: list[Replica] = []
        self.leaving: list[Replica] = []
        self.killed: list[Replica] = []

    def add(self, replica: Replica) -> None:
        self.came.append(self.clock.now)
        self.working.append(replica)

    def drain(self, replica: Replica) -> None:
        self.working.remove(replica)
        self.leaving.append(replica)

    def kill(self, replica: Replica) -> None:
        self.killed.append(replica)


def opened(start: Start, count: int = 0, grace: float = 30) -> tuple[Clock, Fleet, Hall]:
    clock = Clock()
    fleet, hall = Fleet(clock, start, count=count, grace_seconds=grace), Hall(clock)
    fleet.open(hall)
    return clock, fleet, hall


def test_those_it_begins_with_are_ready():
    _, fleet, hall = opened(Start(node=100, pull=60, load=20), count=2)

    assert (fleet.count, fleet.ready, hall.came) == (2, 2, [0, 0])


def test_a_new_replica_waits_for_its_machine_its_image_its_model_and_to_be_found():
    clock, fleet, hall = opened(Start(node=100, pull=60, load=20, discovery=1))

    fleet.scale_to(1)
    clock.run(179)
    assert (fleet.count, fleet.ready) == (1, 0)
    clock.run(180)
    assert fleet.ready == 1
    clock.run(200)
    assert hall.came == [181]


def test_those_that_are_not_ready_go_first_and_then_the_newest():
    clock, fleet, hall = opened(Start(load=10), count=1)
    fleet.scale_to(2)
    clock.run(11)
    first, second = hall.working
    fleet.scale_to(3)

    fleet.scale_to(2)
    clock.run(30)
    assert hall.working == [first, second]
    fleet.scale_to(1)
    assert hall.working == [first]
    assert hall.leaving == [second]


def test_a_machine_is_paid_for_from_the_request_until_its_replica_has_drained():
    clock, fleet, hall = opened(Start(load=10), count=1)
    clock.run(5)
    fleet.scale_to(2)
    clock.run(20)
    fleet.scale_to(1)
    assert (fleet.ready, fleet.draining) == (1, 1)
    clock.run(24)
    fleet.left(hall.leaving[0])
    clock.run(100)

    assert fleet.draining == 0
    assert fleet.node_seconds == 100 + (24 - 5)


def test_a_machine_is_paid_for_only_once_it_is_there():
    clock, fleet, _ = opened(Start(node=100, load=10))

    fleet.scale_to(1)
    clock.run(150)

    assert fleet.node_seconds == 50


def test_a_replica_that_drains_for_too_long_is_killed():
    clock, fleet, hall = opened(Start(), count=1, grace=30)

    fleet.scale_to(0)
    clock.run(29)
    assert hall.killed == []
    clock.run(30)

    assert hall.killed == hall.leaving
    assert fleet.draining == 0
    assert fleet.node_seconds == 30


def test_a_replica_that_is_not_wanted_any_more_before_it_is_ready_never_comes():
    clock, fleet, hall = opened(Start(load=10))
    fleet.scale_to(1)
    clock.run(5)

    fleet.scale_to(0)
    clock.run(100)

    assert (fleet.ready, hall.came) == (0, [])
    assert fleet.node_seconds == 5


def test_a_draining_replica_stays_until_others_know_that_it_goes():
    clock = Clock()
    fleet, hall = Fleet(clock, Start(), count=1, grace_seconds=30, linger_seconds=10), Hall(clock)
    fleet.open(hall)
    fleet.scale_to(0)
    clock.run(4)

    fleet.left(hall.leaving[0])
    clock.run(9)
    assert fleet.draining == 1
    clock.run(100)

    assert fleet.draining == 0
    assert fleet.node_seconds == 10
