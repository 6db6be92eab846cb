"""Every line that a service writes is one JSON object, bounded, and without what callers or libraries put into it."""

import json
import subprocess
import sys
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from videoanalysis import logs
from videoanalysis.settings import ServiceSettings

MAX_LINE_BYTES = 64 << 10
HOSTILE = 'id\n{"event": "forged"}\r\x1b[31m\x00\x85\u2028\u202e\ud800' + "x" * 100_000


def lines_of(program: str, log_format: str = "json", level: str = "info") -> list[dict[str, Any]]:
    """What a process logs that runs `program` after it has configured its logs."""
    start = f"import structlog; from videoanalysis import logs; logs.configure({level!r}, {log_format!r})\n"
    done = subprocess.run([sys.executable, "-c", start + program], capture_output=True, timeout=60, check=False)
    return [json.loads(line) for line in done.stderr.decode().splitlines()]


def test_libraries_warnings_threads_and_the_last_exception_are_logged_as_json():
    lines = lines_of(
        """
import asyncio, logging, threading, warnings
library = logging.getLogger("library.part")
library.addHandler(logging.StreamHandler())
library.propagate = False
logs.take_over_loggers()
library.info("too detailed")
library.warning("several\\nlines of %s", "x" * 100_000)
try:
    1 / 0
except ZeroDivisionError:
    library.exception("failed")
warnings.warn("a warning")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
async def main():
    asyncio.get_running_loop().call_exception_handler({"message": "of the loop"})
asyncio.run(main())
structlog.get_logger().info("ours", number=1)
raise RuntimeError("the end")
"""
    )
    events = [line["event"] for line in lines]
    assert events[0].startswith("several\\nlines of x")
    assert events[1] == "failed"
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "a warning" in events[2]
    assert events[3] == "uncaught exception"
    assert events[4:] == ["of the loop", "ours", "uncaught exception"]
    assert "the end" in lines[-1]["exception"]
    assert {line["logger"] for line in lines[:2]} == {"library.part"}
    assert all({"level", "timestamp"} <= line.keys() for line in lines)


def test_the_level_is_that_of_the_setting():
    program = """
log = structlog.get_logger()
log.debug("debug"); log.info("info"); log.warning("warning"); log.error("error")
"""
    levels = ["debug", "info", "warning", "error"]
    for index, level in enumerate(levels):
        assert [line["event"] for line in lines_of(program, level=level)] == levels[index:]


def rendered(event: dict[str, object]) -> str:
    line = logs.bound(None, "", event)
    text = structlog.processors.JSONRenderer(ensure_ascii=False)(None, "", line)
    assert isinstance(text, str)
    return text


def test_what_callers_send_neither_forges_lines_nor_fills_them():
    text = rendered(
        {"event": "call ended", "stream_id": HOSTILE, "labels": [HOSTILE] * 500, "nested": {HOSTILE: HOSTILE}}
    )
    assert len(text.encode()) < MAX_LINE_BYTES
    assert text.isprintable()
    assert json.loads(text)["event"] == "call ended"
    assert json.loads(text)["stream_id"].startswith(
        'id\\n{"event": "forged"}\\r\\x1b[31m\\x00\\x85\\u2028\\u202e\\ud800x'
    )


def test_an_exception_keeps_its_end_and_its_lines():
    line = logs.bound(None, "", {"event": "bug", "exception": "Traceback\n" * 10_000 + "  last\x1b[0m line"})
    assert str(line["exception"]).endswith("Traceback\n  last\\x1b[0m line")
    assert len(str(line["exception"])) < 10_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/clip.mp4?X-Amz-Signature=abc&b=c was refused", "https://host/clip.mp4?*** was refused"),
        ("url='https://host/?token=abc'", "url='https://host/?***'"),
        ("http://user:secret@proxy:3128 is down", "http://***@proxy:3128 is down"),
        ("s3://bucket/what?.mp4", "s3://bucket/what?***"),
        ("s3://bucket/key", "s3://bucket/key"),
    ],
)
def test_users_and_queries_of_urls_are_masked(text, shown):
    assert logs.bound(None, "", {"event": text})["event"] == shown


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), VALUES))
def test_any_values_make_one_bounded_printable_line_of_json(event):
    text = rendered(event)
    assert len(text.encode()) < MAX_LINE_BYTES
    assert text.isprintable() or "exception" in event
    json.loads(text)


class _Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_", frozen=True)

    port: int = 1
    grace_seconds: float = 1
    keys: list[SecretStr] = Field([SecretStr("very secret")])
    endpoint: str = "http://user:hidden@host"


def test_effective_settings_mask_secrets():
    text = rendered({"event": "starting", "settings": _Settings().effective()})
    assert "very secret" not in text
    assert "hidden" not in text
    assert json.loads(text)["settings"]["max_connections"] == 1024


def test_causes_are_the_errors_behind_an_error_the_nearest_first():
    errors = [RuntimeError("third"), ValueError("second"), OSError("first")]
    errors[0].__cause__, errors[1].__context__ = errors[1], errors[2]
    assert logs.causes(errors[0]) == ["ValueError: second", "OSError: first"]
    errors[2].__cause__ = errors[0]  # a circle
    assert len(logs.causes(errors[0])) < 20
