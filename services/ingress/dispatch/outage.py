"""A source that answers no more, in the log once, however often it is asked again."""

import structlog

_log = structlog.get_logger()


class Outage:
    def __init__(self, source: str) -> None:
        self._source = source
        self._on = False

    def begin(self, error: str) -> None:
        if not self._on:
            _log.warning("discovery fails, what was last known is kept", source=self._source, error=error)
        self._on = True

    def end(self) -> None:
        if self._on:
            _log.info("discovery works again", source=self._source)
        self._on = False
