"""Replicas that behave as a test says, in place of calls."""

from collections import Counter

from services.ingress.dispatch.discovery import Discovery, Static
from services.ingress.dispatch.replica import Replica
from services.ingress.dispatch.replicas import Replicas

NAMES = ["a:1", "b:1", "c:1"]
SOON = 20.0


class Behaviour:
    """What each replica does, in place of a call; counts the attempts."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.attempts: Counter[str] = Counter()

    async def __call__(self, replica: Replica, seconds: float) -> str:
        name = replica.address[0]
        self.attempts[name] += 1
        answer = self.answers.get(name, "ok")
        if callable(answer):
            answer = answer(self.attempts[name])
        if isinstance(answer, Exception):
            raise answer
        return f"{answer} from {name}"


def replicas(names: list[str] = NAMES, wait_seconds: float = 5.0) -> Replicas:
    return discovered(Static(names), wait_seconds)


def discovered(discovery: Discovery, wait_seconds: float = 5.0) -> Replicas:
    return Replicas("encoder", discovery, attempt_seconds=10, wait_seconds=wait_seconds)
