# pyright: basic, reportPrivateImportUsage=false
"""No answer is larger than we can take: LiteLLM's responses, cut off while they arrive.

LiteLLM and the SDKs read a body to its end before anybody can look at it. Both paths get their bytes from one class of
LiteLLM's aiohttp transport; `install` puts a counting one in its place.
"""

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

MAX_BODY_BYTES = 20_000_000
"""Of an answer in one piece, decompressed: several times the longest text that a model can write."""
MAX_STREAM_BYTES = 60_000_000
"""Of a stream, where a few characters of text come in some hundred bytes of JSON."""
MAX_ERROR_BYTES = 32_768
"""Of a refusal, of which the rest is not read: LiteLLM's patterns take seconds for each megabyte of it."""
MAX_EVENT_BYTES = 2_000_000
"""Of one line of a stream: the OpenAI SDK takes time with the square of it."""
_REFUSED = 400
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


class ResponseTooLargeError(Exception):
    """The body was cut off; its name is how `model_errors` knows it."""


class Meter:
    """Counts a body as it will be when it is decompressed.

    Args:
        limit: bytes.
        streams: it is a stream of events, one or more lines each.
        encoding: the response's `Content-Encoding`.

    Raises:
        ResponseTooLargeError: it is packed more than once: nobody does that in good faith.
    """

    def __init__(self, limit: int, *, streams: bool = False, encoding: str = "") -> None:
        self._limit = self._left = limit
        self._streams = streams
        self._line = 0
        if "," in encoding:
            raise ResponseTooLargeError(f"a body that is packed more than once ({encoding[:40]})")
        packed = encoding.strip().lower() in {"gzip", "x-gzip", "deflate"}
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP) if packed else None

    def take(self, chunk: bytes) -> None:
        """Count a piece.

        Raises:
            ResponseTooLargeError: that was too much.
        """
        unpacked = self._unpacked(chunk)
        self._left -= len(unpacked)
        if self._left < 0:
            raise ResponseTooLargeError(f"a response of more than {self._limit / 1e6:g} MB")
        if self._streams:
            end = unpacked.rfind(b"\n")
            self._line = self._line + len(unpacked) if end < 0 else len(unpacked) - end
            if self._line > MAX_EVENT_BYTES:
                raise ResponseTooLargeError(f"an event of more than {MAX_EVENT_BYTES / 1e6:g} MB")

    def _unpacked(self, chunk: bytes) -> bytes:
        if self._inflate is None:
            return chunk
        try:
            # One byte more than allowed is enough to know; a bomb is never unpacked.
            return self._inflate.decompress(chunk, self._left + 1)
        except zlib.error:
            self._inflate = None  # raw deflate, or broken: whoever reads it will say
            return chunk


def _meter_for(status: int, headers: Mapping[str, str]) -> Meter:
    streams = "event-stream" in headers.get("content-type", "")
    limit = MAX_STREAM_BYTES if streams else MAX_BODY_BYTES
    return Meter(
        MAX_ERROR_BYTES if status >= _REFUSED else limit,
        streams=streams,
        encoding=headers.get("content-encoding", ""),
    )


def install(transport: Any) -> None:  # noqa: ANN401 - a module of LiteLLM
    """From now on responses are cut off at the limits.

    Args:
        transport: `litellm.llms.custom_httpx.aiohttp_transport`.
    """
    original = transport.AiohttpResponseStream

    class CappedStream(original):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            response = self._aiohttp_response
            meter = _meter_for(response.status, response.headers)
            async with aclosing(super().__aiter__()) as chunks:
                async for chunk in chunks:
                    try:
                        meter.take(chunk)
                    except ResponseTooLargeError:
                        if response.status >= _REFUSED:
                            return  # its beginning says what is wrong
                        raise
                    yield chunk

    transport.AiohttpResponseStream = CappedStream
