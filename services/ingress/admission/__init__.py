"""Requests come in; those that may start, and how much work there is, come out: slots, queues, budgets, deadlines."""

from services.ingress.admission.byte_budget import ByteBudget
from services.ingress.admission.caller import Caller
from services.ingress.admission.deadline import Deadline
from services.ingress.admission.demand import Demand, VideoDemand
from services.ingress.admission.fair_queue import FairQueue, Share
from services.ingress.admission.slots import Admission

__all__ = [
    "Admission",
    "ByteBudget",
    "Caller",
    "Deadline",
    "Demand",
    "FairQueue",
    "Share",
    "VideoDemand",
]
