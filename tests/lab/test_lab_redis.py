from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab, MissingToolError, Redis
from lab.errors import NotReadyError
from lab.redis import ask_redis, probe_redis
from tests.kafka import unique


def test_a_value_survives_the_death_of_the_server(own_redis: Redis) -> None:
    key, address = unique("lab"), own_redis.address
    assert ask_redis(address, "INCR", key) == ":1"
    own_redis.server.kill()
    with pytest.raises(NotReadyError, match="refused"):
        probe_redis(address)
    own_redis.server.start()
    assert own_redis.address == address
    assert ask_redis(address, "INCR", key) == ":2"


def test_a_paused_redis_is_not_ready_and_a_resumed_one_is(own_redis: Redis) -> None:
    own_redis.server.pause()
    with pytest.raises(NotReadyError, match="timed out"):
        probe_redis(own_redis.address)
    own_redis.server.resume()
    own_redis.server.wait_ready()


def test_two_labs_hold_two_redises_each_with_its_settings(own_redis: Redis) -> None:
    key = unique("lab")
    with Lab() as other_lab:
        other = other_lab.redis({"requirepass": "secret", "maxmemory": "100mb"})
        assert ask_redis(other.address, "INCR", key) == ":1"
        assert ask_redis(other.address.replace("secret", "wrong"), "PING").startswith("-NOAUTH")
        assert ask_redis(own_redis.address, "INCR", key) == ":1"


def test_no_folder_of_a_lab_stays(tmp_path: Path) -> None:
    with Lab(parent_directory=tmp_path) as lab:
        assert ask_redis(lab.redis().address, "SET", "key", "value") == "+OK"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_redis_server_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab(parent_directory=tmp_path) as lab:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(MissingToolError, match="apt-get install redis-server"):
            lab.redis()
