"""The results of chunks come in; the events of the stream and the answer for the whole video come out."""

from services.ingress.answer.observers import Observer, Observers, RedecodedWriter, StreamWriter, UnaryCollector
from services.ingress.answer.outputs import Output, Outputs
from services.ingress.answer.shots import SceneEnd, Shots, ShotsState, ends_at_changes, nearest_cut
from services.ingress.answer.size import LargestSizes, check_event
from services.ingress.answer.summary import Summary, SummaryState
from services.ingress.answer.text_shares import TextShare
from services.ingress.answer.timeline import Part, Timeline, Trace

__all__ = [
    "LargestSizes",
    "Observer",
    "Observers",
    "Output",
    "Outputs",
    "Part",
    "RedecodedWriter",
    "SceneEnd",
    "Shots",
    "ShotsState",
    "StreamWriter",
    "Summary",
    "SummaryState",
    "TextShare",
    "Timeline",
    "Trace",
    "UnaryCollector",
    "check_event",
    "ends_at_changes",
    "nearest_cut",
]
