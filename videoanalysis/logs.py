"""Structured logs: one JSON object per line in pods, coloured text on a terminal, of libraries too."""

import logging
import math
import re
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Literal

import structlog

LogFormat = Literal["json", "console"]

_MAX_TEXT_CHARACTERS = 2_000
_MAX_EXCEPTION_CHARACTERS = 8_000
_MAX_LINE_CHARACTERS = 12_000  # container runtimes split lines at 16 KiB
_MAX_ITEMS = 100
_MAX_DEPTH = 4
_USER = re.compile(r"(://)[^/\s@]*@")
_QUERY = re.compile(r"(\w://[^\s?#'\"<>]*)\?[^\s'\"<>)]*")

_log = structlog.get_logger()


def configure(level: str, log_format: LogFormat) -> None:
    """Log to stderr from `level` on, libraries from WARNING on; every line has the bound context of structlog.

    What would write to stderr by itself is logged, too: the loggers of libraries, warnings, exceptions of threads, and
    the one that ends the process.
    """
    context: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        bound,
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(),
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*context, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*context, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)
    logging.raiseExceptions = False
    take_over_loggers()
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda thrown: _log_uncaught(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)


def take_over_loggers() -> None:
    """Makes the libraries imported so far log through the root handler: some have added one of their own."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True


def causes(error: BaseException) -> list[str]:
    """The errors that led to `error`, the nearest first."""
    chain: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(chain) < 8:
        chain.append(f"{type(cause).__name__}: {cause}"[:_MAX_TEXT_CHARACTERS])
        cause = cause.__cause__ or cause.__context__
    return chain


def bound(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: bounds the line, escapes control characters, and removes secrets of URLs.

    Values come from callers: ids, labels, URIs.
    """
    line = _Line()
    return {line.text(str(key), 100): line.value(value, key == "exception") for key, value in event.items()}


class _Line:
    """The number of characters that a line may still have."""

    def __init__(self) -> None:
        self._left = _MAX_LINE_CHARACTERS

    def value(self, value: object, multiline: bool = False, depth: int = 0) -> object:
        if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 1 << 63):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, str):
            if not multiline:
                return self.text(value)
            # The end of a traceback names the error.
            end = value[-_MAX_EXCEPTION_CHARACTERS:]
            cut = "…" if end != value else ""
            return cut + "\n".join(self.text(part) for part in end.split("\n"))
        if depth < _MAX_DEPTH and isinstance(value, Mapping):
            items = list(value.items())[:_MAX_ITEMS]
            return {self.text(str(key), 100): self.value(item, depth=depth + 1) for key, item in items}
        if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
            return [self.value(item, depth=depth + 1) for item in list(value)[:_MAX_ITEMS] if self._left > 0]
        return self.text(repr(value))

    def text(self, text: str, most: int = _MAX_TEXT_CHARACTERS) -> str:
        most = max(0, min(most, self._left))
        shown = text[:most]
        if "://" in shown:
            shown = _QUERY.sub(r"\1?***", _USER.sub(r"\1***@", shown))
        if not shown.isprintable():
            escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
            shown = "".join(escaped)
        if len(text) > most or len(shown) > most:
            shown = shown[:most] + "…"
        self._left -= len(shown)
        return shown


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt) or error is None:
        sys.__excepthook__(kind, error or kind(), traceback)
        return
    _log.critical("uncaught exception", exc_info=(kind, error, traceback))
