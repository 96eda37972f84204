from __future__ import annotations

import socket

from lab.ports import LOWEST, Ports, _first_ephemeral_port, _is_free


def test_ports_are_free_and_none_the_kernel_gives_to_clients() -> None:
    ports = Ports()
    taken = [ports.take() for _ in range(20)]
    assert len(set(taken)) == 20
    assert all(LOWEST <= port < _first_ephemeral_port() for port in taken)
    ports.close()


def test_a_port_of_one_lab_is_no_port_of_another_until_it_closes() -> None:
    first, second = Ports(), Ports()
    port = first.take()
    assert not second._reserve(port)
    first.close()
    assert second._reserve(port)
    second.close()


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not _is_free(server.getsockname()[1])
