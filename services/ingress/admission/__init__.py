"""Requests come in; those that may start, and how much work there is, come out: slots, queues, budgets, deadlines."""

from services.ingress.admission.authentication import Authentication, current_caller
from services.ingress.admission.bearer_tokens import read_tokens
from services.ingress.admission.byte_budget import ByteBudget
from services.ingress.admission.caller import Caller
from services.ingress.admission.deadline import Deadline
from services.ingress.admission.demand import Demand, VideoDemand
from services.ingress.admission.fair_queue import FairQueue, Share
from services.ingress.admission.issuer_keys import FileKeys, IssuerKeys, RemoteKeys
from services.ingress.admission.policy import read_policy
from services.ingress.admission.slots import Admission, Slot
from services.ingress.admission.web_tokens import WebTokens

__all__ = [
    "Admission",
    "Authentication",
    "ByteBudget",
    "Caller",
    "Deadline",
    "Demand",
    "FairQueue",
    "FileKeys",
    "IssuerKeys",
    "RemoteKeys",
    "Share",
    "Slot",
    "VideoDemand",
    "WebTokens",
    "current_caller",
    "read_policy",
    "read_tokens",
]
