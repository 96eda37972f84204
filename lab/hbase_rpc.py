"""As much of HBase's own protocol as it takes to ask a server how it is: Thrift may be down when it is asked.

The protocol: https://hbase.apache.org/book.html#hbase.rpc; the messages: RPC.proto, Admin.proto, Master.proto,
Procedure.proto.
"""

import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Self

PREAMBLE = b"HBas\x00\x50"  # version 0, simple authentication
VARINT, BYTES = 0, 2  # wire types of protobuf
FINISHED = {5, 6, 7}  # rolled back, success, failed


class RemoteError(Exception):
    """The server answered with an exception; the message is its class."""


class RpcConnection:
    """A connection to one service of a server. For one thread; to be closed after any error."""

    def __init__(self, address: str, timeout_seconds: float, service: str = "MasterService") -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=timeout_seconds)
        user = _bytes_field(1, b"lab")
        header = _bytes_field(1, user) + _bytes_field(2, service.encode())
        self._socket.sendall(PREAMBLE + struct.pack(">I", len(header)) + header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, method: str) -> bytes:
        """Call a method with an empty request and return its answer. Raises `RemoteError` and `OSError`."""
        header = _varint_field(1, 1) + _bytes_field(3, method.encode()) + _varint_field(4, 1)
        request = _varint(len(header)) + header + _varint(0)
        self._socket.sendall(struct.pack(">I", len(request)) + request)
        (size,) = struct.unpack(">I", self._receive(4))
        answer = self._receive(size)
        header, rest = _split_delimited(answer)
        for exception in _strings(header, 2):
            raise RemoteError(_strings(exception, 1)[0].decode())
        return _split_delimited(rest)[0]

    def unfinished_procedures(self, kind: str) -> int:
        """Return how many of the master's procedures of a class are under way."""
        return sum(
            _strings(procedure, 1)[0].decode().endswith(f".{kind}") and _numbers(procedure, 6)[0] not in FINISHED
            for procedure in _strings(self.call("GetProcedures"), 1)
        )

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self._socket.recv(size - len(received))
            if not piece:
                raise ConnectionResetError("the server hung up")
            received += piece
        return received


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | VARINT) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position


def _split_delimited(message: bytes) -> tuple[bytes, bytes]:
    """Split off the message at the start, which its length goes before."""
    length, start = _read_varint(message, 0)
    return message[start : start + length], message[start + length :]


def _strings(message: bytes, number: int) -> list[bytes]:
    return [value for found, value in _fields(message) if found == number and isinstance(value, bytes)]


def _numbers(message: bytes, number: int) -> list[int]:
    return [value for found, value in _fields(message) if found == number and isinstance(value, int)]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field; of a repeated one, each value."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        if tag & 7 == VARINT:
            value, position = _read_varint(message, position)
            yield tag >> 3, value
        elif tag & 7 == BYTES:
            length, position = _read_varint(message, position)
            yield tag >> 3, message[position : position + length]
            position += length
        else:
            raise OSError(f"field {tag >> 3} has a wire type that these messages don't use")
