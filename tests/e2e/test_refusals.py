"""What can't work is said at once: the exit code, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.commands import run
from tests.e2e.conftest import MakeScene
from tests.e2e.scene import Scene

pytestmark = pytest.mark.e2e

DEADLINE_S = 60.0


def worker(config: Path) -> tuple[int, str]:
    """Exit code and what it said, of a worker that can't start."""
    return run(["app", "worker", "--config", str(config), "--log-level", "error"], deadline_s=DEADLINE_S)


def changed(old: str, new: str) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        text = scene.config.read_text()
        assert old in text
        scene.config.write_text(text.replace(old, new))

    return change


def elsewhere(setting: str, value: str) -> Callable[[Scene], None]:
    """Give a setting of the scene another value, wherever it points now."""

    def change(scene: Scene) -> None:
        lines = scene.config.read_text().splitlines()
        found = [f'{setting} = "{value}"' if line.startswith(f"{setting} =") else line for line in lines]
        assert found != lines
        scene.config.write_text("\n".join(found))

    return change


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (elsewhere("bootstrap_servers", "127.0.0.1:1"), 3, ["Kafka at 127.0.0.1:1", "kafka.bootstrap_servers"]),
        (elsewhere("url", "hdfs://127.0.0.1:1/recount"), 3, ["hdfs://127.0.0.1:1/recount", "sinks.archive.url"]),
        (changed("session_timeout", "sesion_timeout"), 2, ["kafka.sesion_timeout", "session_timeout"]),
        (changed('session_timeout = "4s"', "session_timeout = 4"), 2, ["kafka.session_timeout"]),
        (changed("replication = 1", 'replication = "one"'), 2, ["kafka.replication"]),
        (changed('window = "1m"', 'window = "90 minutes"'), 2, ["window", "90 minutes"]),
        (changed("[checkpoint]", "[checkpoints]"), 2, ["checkpoints", "checkpoint"]),
        (changed('[app]\nid = "', '[app]\nid = "a.b'), 2, ["app.id"]),
        (changed("[app]", "[app"), 2, ["recount.toml"]),
        (lambda scene: scene.config.unlink(), 2, ["recount.toml"]),
    ],
    ids=[
        "no Kafka",
        "no HDFS",
        "unknown key",
        "number for a duration",
        "text for a number",
        "no duration",
        "unknown section",
        "dots in the id",
        "not TOML",
        "no file",
    ],
)
def test_a_worker_that_cannot_start_says_why(
    make_scene: MakeScene, change: Callable[[Scene], None], code: int, said: list[str]
) -> None:
    scene = make_scene()
    change(scene)
    got, text = worker(scene.config)
    assert got == code, text
    assert all(one in text for one in said), text


def test_a_missing_topic_is_named_with_the_command_that_makes_it(make_scene: MakeScene) -> None:
    scene = make_scene()
    missing = f"{scene.topic}-missing"
    changed(f'"{scene.topic}"', f'"{missing}"')(scene)
    got, text = worker(scene.config)
    assert got == 3, text
    assert f"topic {missing}" in text
    assert f"kafka-topics.sh --bootstrap-server {scene.bootstrap} --create --topic {missing}" in text


def test_two_workers_of_one_instance_on_one_host_are_refused(make_scene: MakeScene) -> None:
    scene = make_scene()
    (first,) = scene.start("w1")
    second = scene.worker("w1")
    second.log_path = scene.folder / "second.log"
    second.start()
    assert second.wait(DEADLINE_S) == 4, second.log()[-3000:]
    assert "app.instance" in second.log()
    assert first.running


def test_changed_settings_of_a_counted_table_are_refused(make_scene: MakeScene) -> None:
    scene = make_scene()
    (first,) = scene.start("w1")
    first.terminate()
    changed('grace = "30s"', 'grace = "31s"')(scene)
    got, text = worker(scene.config)
    assert got == 4, text
    assert "table visits" in text
    assert "new name" in text
