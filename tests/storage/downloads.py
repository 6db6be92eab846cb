"""Reads a whole object as the ingress reads its parts."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import BinaryIO

from videoanalysis.storage import Storage, StoredObject


async def ignore(_: int) -> None: ...


async def download(
    storage: Storage, source: StoredObject, file: BinaryIO, on_progress: Callable[[int], Awaitable[None]] = ignore
) -> None:
    """`on_progress` is awaited after each block with the bytes so far."""
    async with aclosing(storage.blocks(source, 0, source.size)) as blocks:
        async for block in blocks:
            file.write(block)
            await on_progress(file.tell())
