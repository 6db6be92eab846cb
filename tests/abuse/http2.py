"""A gRPC client of single HTTP/2 frames: it withholds windows, messages and acknowledgements, which gRPC never does."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings


@dataclass
class Stream:
    """What has arrived of one call."""

    data: bytes = b""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    headers: dict[str, str] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> str:
        """The number of the gRPC status, "none" where none came."""
        return self.headers.get("grpc-status", "none")


class Client:
    """With `window` 0 the server may not send a byte of an answer; its headers and trailers are free."""

    def __init__(
        self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int | None
    ) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        if window is not None:
            self._connection.local_settings = Settings(
                client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self._connection.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.acknowledges = True
        self.closed = asyncio.Event()

    async def call(
        self,
        path: str,
        message: bytes | None = None,
        *,
        end: bool = True,
        metadata: Iterable[tuple[str, str]] = (),
    ) -> Stream:
        """A call whose request is `message`; None for its headers alone."""
        number = self._connection.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        self.streams[number] = Stream()
        self._connection.send_headers(number, headers)
        if message is not None:
            await self.send(self.streams[number], message, end=end)
        self.flush()
        return self.streams[number]

    async def send(self, stream: Stream, message: bytes, *, end: bool = False) -> None:
        await self.send_bytes(stream, b"\0" + struct.pack(">I", len(message)) + message, end=end)

    async def send_bytes(self, stream: Stream, unsent: bytes, *, end: bool = False) -> None:
        number = self._number(stream)
        while unsent and not stream.ended.is_set():
            window = min(self._connection.local_flow_control_window(number), 16384)
            piece, unsent = unsent[:window], unsent[window:]
            if piece:
                self._connection.send_data(number, piece, end_stream=end and not unsent)
                self.flush()
            else:
                await asyncio.sleep(0.005)

    def read(self, stream: Stream, window: int) -> None:
        """Lets the server send `window` bytes more."""
        self._connection.increment_flow_control_window(window, self._number(stream))
        self._connection.increment_flow_control_window(window)
        self.flush()

    def reset(self, stream: Stream) -> None:
        self._connection.reset_stream(self._number(stream), ErrorCodes.CANCEL)
        self.flush()

    def ping(self) -> None:
        with suppress(ProtocolError):  # closed by now
            self._connection.ping(bytes(8))
        self.flush()

    def flush(self) -> None:
        self._writer.write(self._connection.data_to_send())

    def _number(self, stream: Stream) -> int:
        return next(number for number, known in self.streams.items() if known is stream)

    async def receive(self) -> None:
        """Until the server closes the connection."""
        try:
            with suppress(ConnectionError):
                while received := await self._reader.read(1 << 16):
                    if not self.acknowledges:
                        continue
                    for event in self._connection.receive_data(received):
                        if getattr(event, "stream_id", 0) not in self.streams:
                            continue  # not of a call, or of one that the test has forgotten
                        match event:
                            case ResponseReceived() | TrailersReceived():
                                self.streams[event.stream_id].arrived.set()
                                self.streams[event.stream_id].headers |= dict(event.headers)
                                if isinstance(event, TrailersReceived) or event.stream_ended:
                                    self.streams[event.stream_id].ended.set()
                            case DataReceived():
                                self.streams[event.stream_id].data += event.data
                            case StreamReset():
                                self.streams[event.stream_id].ended.set()
                    self.flush()
        finally:
            self.closed.set()
            for stream in self.streams.values():
                stream.ended.set()


@asynccontextmanager
async def connect(address: str, window: int | None = None) -> AsyncIterator[Client]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = Client(address, reader, writer, window)
    client.flush()
    receiving = asyncio.create_task(client.receive())
    try:
        yield client
    finally:
        receiving.cancel()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
