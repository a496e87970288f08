"""From the bytes of an image to its result, in bounded memory: decoded by several threads, computed by one."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lightning_seg.data.reading import as_shown, open_image
from lightning_seg.errors import DataError, UnreadableError
from lightning_seg.machine import usable_cpus
from lightning_seg.predictions.pictures import JPEG_SIDE
from lightning_seg.predictor import Predictor
from lightning_seg.serving.answers import jpeg
from lightning_seg.serving.batching import Batcher
from lightning_seg.sources import ByteSource
from lightning_seg.trained.result import Result

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
        max_bytes: of a body.
        max_pixels: height × width of an image.
        max_requests: that are answered at the same time, most of which wait.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 25_000_000
    max_requests: int = 128


class Service:
    """Answers requests for predictions; errors are HTTP's.

    Args:
        predictor: of the model.
        name: of the model.
        limits: of requests.
    """

    def __init__(self, predictor: Predictor, name: str, limits: Limits) -> None:
        self.predictor = predictor
        self.name = name
        self.limits = limits
        self.max_pixels = min(limits.max_pixels, predictor.rules.max_pixels)
        self.requests = 0
        self._rules = replace(predictor.rules, max_pixels=sys.maxsize)  # the limit is this one's own
        cpus = usable_cpus()
        self._threads = ThreadPoolExecutor(cpus, "reading")
        self._batcher = Batcher(predictor, predictor.batch_size)
        self._decoded = asyncio.Semaphore(2 * predictor.batch_size + 2 * cpus)  # images in memory at once

    def close(self) -> None:
        """Answer what has been asked, and end all threads."""
        self._threads.shutdown()
        self._batcher.close()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests that are answered.

        Raises:
            HTTPException: 503 where there is none.
        """
        if self.requests >= self.limits.max_requests:
            raise HTTPException(
                503,
                f"{self.requests} requests wait for an answer, and no more are taken: try again in a second",
                {"Retry-After": "1"},
            )
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def answer(
        self, data: bytes, encode: Callable[[Result], Answer], is_gone: Callable[[], Awaitable[bool]]
    ) -> Answer:
        """What ``encode`` makes of the result of an image.

        Args:
            data: bytes of a file of any format that reading knows.
            encode: is called in a thread.
            is_gone: whether nobody waits for the answer any more, which is asked before the image is decoded.

        Raises:
            ClientDisconnect: if so.
            HTTPException: 400, 413 or 422 where the image cannot be predicted, with what is wrong with it.
        """
        in_thread = asyncio.get_running_loop().run_in_executor
        async with self._read(data, is_gone) as image:
            result = await asyncio.wrap_future(self._batcher.submit(image))
            return await in_thread(self._threads, encode, result)

    async def picture(self, data: bytes, is_gone: Callable[[], Awaitable[bool]]) -> bytes:
        """A JPEG of the image as it is read, upright; arguments and errors are those of :meth:`answer`."""
        in_thread = asyncio.get_running_loop().run_in_executor
        async with self._read(data, is_gone) as image:
            return await in_thread(self._threads, lambda: jpeg(as_shown(image, self._rules)))

    @asynccontextmanager
    async def _read(self, data: bytes, is_gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[NDArray[np.uint8]]:
        """The decoded image, of which few are in memory at once; errors of the block become HTTP's."""
        async with self._decoded:
            if await is_gone():
                raise ClientDisconnect
            try:
                yield await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, data)
            except UnreadableError as error:
                raise HTTPException(400, str(error)) from None
            except DataError as error:
                raise HTTPException(422, str(error)) from None
            except (MemoryError, RuntimeError) as error:
                if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                    raise HTTPException(413, "this server has too little memory for the image: shrink it") from None
                raise

    def _decode(self, data: bytes) -> NDArray[np.uint8]:
        """The image as ``predict`` reads it; its size is looked at before a pixel is decoded."""
        file = open_image(_Body(data), self._rules)
        height, width = file.header.stored
        if height * width > self.max_pixels or max(height, width) > JPEG_SIDE:
            most = self.max_pixels if height * width > self.max_pixels else f"{JPEG_SIDE} a side"
            raise HTTPException(
                413, f"the image is {width}×{height} pixels, and this server takes at most {most}: shrink or cut it"
            )
        return file.whole()


class _Body(ByteSource):
    """The body of a request."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self) -> BinaryIO:
        return BytesIO(self._data)

    def __str__(self) -> str:
        return "that you sent"
