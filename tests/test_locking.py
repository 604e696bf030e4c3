"""The lock of a local lake: who has it, and from whom it is taken over."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebi_spark.errors import InputError
from ebi_spark.lake import locking
from ebi_spark.lake.locking import locked


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "silver").mkdir()
    return tmp_path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    yield process
    process.kill()
    process.wait()


def owned_by(*pids: int, **changed: Any) -> dict[str, Any]:
    processes = [{"pid": pid, "started": locking._started(pid), "name": "x"} for pid in pids]
    return {**locking._here(), "since": "2024-03-31 23:59:59", "processes": processes, **changed}


def write(lake: Path, holder: Any) -> Path:
    path = lake / "silver" / locking.LOCK
    path.write_text(holder if isinstance(holder, str) else json.dumps(holder), encoding="utf-8")
    return path


def test_it_names_this_process_and_goes_with_it(lake: Path) -> None:
    path = lake / "silver" / locking.LOCK
    with locked(lake) as lock:
        lock.name_java()
        lock_file = json.loads(path.read_text(encoding="utf-8"))
        assert lock_file["processes"][0] == {
            "pid": os.getpid(), "started": locking._started(os.getpid()), "name": locking._name(os.getpid()),
        }  # fmt: skip
        assert path.stat().st_mode & 0o077 == 0
        with pytest.raises(InputError, match=rf"in use by process {os.getpid()} \(.*started \d{{4}}-"), locked(lake):
            pass
        assert json.loads(path.read_text(encoding="utf-8")) == lock_file
    assert not path.exists()


def test_java_that_outlives_python_keeps_it(lake: Path, other: subprocess.Popen[bytes]) -> None:
    """Two owners: while either lives the lake is in use, and the message names the living one."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    holder = owned_by(gone.pid, other.pid)
    gone.wait()
    write(lake, holder)
    with pytest.raises(InputError) as refused, locked(lake):
        pass
    assert f"process {other.pid} " in refused.value.message
    assert str(gone.pid) not in refused.value.message
    other.kill()
    other.wait()
    with locked(lake):
        assert json.loads((lake / "silver" / locking.LOCK).read_text())["processes"][0]["pid"] == os.getpid()


@pytest.mark.parametrize(
    "holder",
    [
        "",
        "no json",
        owned_by(),
        owned_by(os.getpid()) | {"processes": [{"pid": os.getpid(), "started": "1", "name": "x"}]},
        owned_by(os.getpid(), boot="an earlier start of this machine"),
        {"pid": str(os.getpid()), "started": "1", "since": "2024-01-01"},
    ],
    ids=["empty", "damaged", "nobody", "number_given_out_again", "before_the_machine_started", "older_version_dead"],
)
def test_it_is_taken_over_from_the_dead(lake: Path, holder: Any) -> None:
    write(lake, holder)
    with locked(lake):
        pass


@pytest.mark.parametrize(
    "holder",
    [
        owned_by(os.getpid()),
        owned_by(os.getpid(), host="elsewhere", boot="x"),
        owned_by(view="another container"),
        {"pid": str(os.getpid()), "started": locking._started(os.getpid()), "since": "2024-01-01"},
    ],
    ids=["alive", "another_machine", "another_container", "older_version_alive"],
)
def test_it_is_not_taken_from_the_living_or_the_unseen(lake: Path, holder: Any) -> None:
    path = write(lake, holder)
    with pytest.raises(InputError, match="in use") as refused, locked(lake):
        pass
    assert "wait until it has ended" in refused.value.remedy
    assert json.loads(path.read_text(encoding="utf-8")) == holder


def test_of_many_that_find_a_dead_owner_one_gets_it(lake: Path) -> None:
    """Eight processes at once find the lock of a dead one: each that gets it holds it alone."""
    write(lake, owned_by())
    script = (
        "import sys, time, pathlib\n"
        "from ebi_spark.lake.locking import locked\n"
        "from ebi_spark.errors import InputError\n"
        "lake = pathlib.Path(sys.argv[1])\n"
        "try:\n"
        "    with locked(lake):\n"
        "        mine = lake / 'inside'; mine.touch(exist_ok=False); time.sleep(0.3); mine.unlink()\n"
        "except InputError:\n"
        "    sys.exit(2)\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, str(lake)]) for _ in range(8)]
    ended = [process.wait() for process in started]
    assert set(ended) <= {0, 2}
    assert 0 in ended
