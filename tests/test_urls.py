"""A lake at a URL: its address, its lock, its logs; and the whole job on a server of the S3 protocol. (`make urls`)"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from calling import answer_of
from real_runs import WAIT, end_state
from test_locking import owned_by
from test_platforms import HOST, ROOT, free_port, service

from ebi_spark import synthetic
from ebi_spark.config.lake_location import LakeLocation, lake_location
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.lake import locking, object_store
from ebi_spark.lake.locking import LOCK, StoreLock, locked
from ebi_spark.lake.object_store import Objects
from ebi_spark.lake.staging_area import StagingArea
from ebi_spark.lake.storage import Lake
from ebi_spark.runs.checks_before_start import NOT_CHECKED, REFUSED, check_before_start
from ebi_spark.sources import reader
from ebi_spark.sources.reader import SourceTable
from ebi_spark.spark import jars, scratch, session
from ebi_spark.tables.gold import RUN_LOG
from ebi_spark.tables.published import RATE
from jobs import run

obstore = pytest.importorskip("obstore", reason="the extra `urls` is not installed: `make setup`")

URL = "s3a://hospital/lake"
KEY = f"silver/{LOCK}"
MOTO = ROOT / ".venv-s3" / "bin" / "moto_server"


# Addresses


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("s3a://hospital/lake", "s3a://hospital/lake"),
        ("s3a://hospital.nhs-uk/ebi/lake_2/", "s3a://hospital.nhs-uk/ebi/lake_2"),
        ("abfss://ebi@account.dfs.core.windows.net/lake", "abfss://ebi@account.dfs.core.windows.net/lake"),
        ("gs://hospital_1/lake", "gs://hospital_1/lake"),
    ],
)
def test_a_url_is_a_lake(written: str, url: str, tmp_path: Path) -> None:
    location = lake_location(written, tmp_path)
    assert location == LakeLocation(url=url) and str(location) == url and location.place == url
    assert RunConfig(lake=location).stores == {url.partition(":")[0]}


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("s3://hospital/lake", "s3a://BUCKET/FOLDER"),
        ("https://hospital/lake", "s3a://BUCKET/FOLDER"),
        ("dbfs:/lake", "s3a://BUCKET/FOLDER"),
        ("s3a://hospital", "at least one folder"),
        ("s3a://hospital/", "at least one folder"),
        ("s3a:///lake", "does not name a bucket"),
        ("s3a://key:secret@hospital/lake", "does not name a bucket"),
        ("abfss://account.dfs.core.windows.net/lake", "a container and its account"),
        ("gs://hospital/a//b", "does not name a folder"),
        ("gs://hospital/../b", "does not name a folder"),
        ("gs://hospital/a%20b", "does not name a folder"),
        ("s3a://hospital/lake?versionId=1", "does not name a folder"),
        ("s3a://hospital/lake#x", "does not name a folder"),
        ("s3a://hospital/a`b", "does not name a folder"),
    ],
)
def test_another_url_is_refused(written: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        lake_location(written, tmp_path)
    assert words in f"{refused.value.message}; {refused.value.remedy}"
    assert "secret" not in f"{refused.value.message}; {refused.value.remedy}"


def test_sources_at_a_url_count_as_stores(tmp_path: Path) -> None:
    tables = {
        "opa": TableSource("opa", ("s3a://in/*.csv", "/data/opa.csv")),
        "apcs": TableSource("apcs", catalogue_tables=("a.b.c",)),
    }
    sources = (
        Source("a", "sus_plus", tables),
        Source("b", "hes", {"op": TableSource("op", ("dbfs:/x", "hdfs://h/x"))}),
    )
    assert RunConfig(lake=LakeLocation(folder=tmp_path), sources=sources).stores == {"s3a"}


# The lock


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store in memory, which every lock and lake of the test has."""
    made = obstore.store.MemoryStore()
    monkeypatch.setattr(object_store, "_store", lambda _: made)
    return made


def content(store: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(obstore.get(store, KEY).bytes()))
    return found


def put(store: Any, holder: dict[str, Any]) -> None:
    obstore.put(store, KEY, json.dumps(holder).encode())


def has_lock(store: Any) -> bool:
    return bool(obstore.list(store, prefix="silver").collect())


def test_it_names_its_owner_and_goes_with_it(store: Any) -> None:
    with locked(URL) as lock:
        lock.name_java()
        lock.check()
        held = content(store)
        assert held["processes"][0]["pid"] == os.getpid()
        assert held["user"] == locking._user() and held["alive"].endswith(" UTC")
        with pytest.raises(InputError, match=f"{URL} is in use by process {os.getpid()} "), locked(URL):
            pass
        assert content(store) == held
    assert not has_lock(store)


def test_it_is_renewed(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "RENEWED_EVERY", 0.05)
    with locked(URL) as lock:
        put_at = obstore.head(store, KEY)["e_tag"]
        for _ in range(100):
            time.sleep(0.05)
            if obstore.head(store, KEY)["e_tag"] != put_at:
                break
        assert obstore.head(store, KEY)["e_tag"] != put_at
        lock.check()
    time.sleep(0.2)
    assert not has_lock(store)  # and no more after it has ended


def test_it_is_taken_over_from_the_dead_of_this_machine(store: Any) -> None:
    put(store, owned_by(os.getpid()) | {"processes": [{"pid": os.getpid(), "started": "1", "name": "x"}]})
    with locked(URL):
        assert content(store)["processes"][0]["started"] == locking._started(os.getpid())


@pytest.mark.parametrize(
    "holder",
    [
        owned_by(os.getpid()),
        owned_by(os.getpid(), host="elsewhere", boot="x"),
        # Another machine can have this one's name.
        owned_by(os.getpid(), boot="another start"),
        owned_by(view="another container"),
    ],
    ids=["alive", "another_machine", "a_namesake", "another_container"],
)
def test_it_is_not_taken_from_the_living_or_the_unseen(store: Any, holder: dict[str, Any]) -> None:
    put(store, holder | {"user": "ada", "alive": "2024-03-31 23:59:59 UTC"})
    with pytest.raises(InputError, match="in use") as refused, locked(URL):
        pass
    assert "wait until it has ended" in refused.value.remedy
    if holder["boot"] != locking._here()["boot"]:
        assert "by ada since 2024-03-31" in refused.value.message
        assert "last sign of life was at 2024-03-31 23:59:59 UTC" in refused.value.message
        assert f"remove {URL}/{KEY}" in refused.value.remedy
    assert content(store)["since"] == holder["since"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_run_that_lost_it_commits_no_more(store: Any, taken: bool) -> None:
    """Somebody removes the lock by hand; another run may have got it since."""
    with locked(URL) as lock:
        lake = Lake(lambda: pytest.fail("a session was started"), LakeLocation(url=URL), "r", check_lock=lock.check)
        obstore.delete(store, KEY)
        if taken:
            put(store, {"id": "another"})
        lock.name_java()  # writes to the lock, as the thread does every minute
        with pytest.raises(BrokenRunError, match="no longer has the lock"):
            lake._commit(RATE, None)  # type: ignore[arg-type]
    assert has_lock(store) is taken


def test_a_write_whose_answer_was_lost_still_counts(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is made again where its answer was lost. The store then refuses it, because it has done it."""
    lost = iter([True, False])
    real = Objects._put

    def unanswered(self: Objects, name: str, data: bytes, mode: Any) -> Any:
        found = real(self, name, data, mode)
        return None if next(lost, False) else found

    monkeypatch.setattr(Objects, "_put", unanswered)
    with locked(URL) as lock:
        lost = iter([True])
        lock.name_java()
        lock.check()
    assert not has_lock(store)


class Pretender(BaseHTTPRequestHandler):
    """A server of the S3 protocol for single objects, which ignores conditions or answers that it does not know them."""

    objects: dict[str, bytes]
    knows_no_conditions: bool

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 07:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.knows_no_conditions and (self.headers["If-None-Match"] or self.headers["If-Match"]):
            self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
            return
        self.objects[self.path] = data
        self._answer(200)

    def do_GET(self) -> None:
        self._answer(200 if self.path in self.objects else 404, self.objects.get(self.path, b""))

    def do_POST(self) -> None:
        keys = self.rfile.read(int(self.headers["Content-Length"])).decode()
        for path in [path for path in self.objects if path.partition("/hospital/")[2] in keys]:
            del self.objects[path]
        self._answer(200, b"<DeleteResult><Deleted><Key>lake/silver/.lock</Key></Deleted></DeleteResult>")

    def log_message(self, *_: Any) -> None:
        pass


def in_store(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for name, value in credentials(address).items():
        monkeypatch.setenv(name, value)


def credentials(address: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-west-2",
        "AWS_ENDPOINT_URL": address,
    }  # fmt: skip


@pytest.mark.parametrize("known", [True, False], ids=["ignores", "answers_501"])
def test_a_store_without_conditions_is_refused(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    objects: dict[str, bytes] = {}
    handler = type("Store", (Pretender,), {"objects": objects, "knows_no_conditions": not known})
    server = ThreadingHTTPServer((HOST, 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    in_store(monkeypatch, f"http://{HOST}:{server.server_port}")
    try:
        with pytest.raises(InputError, match="two runs could write to the lake") as refused, locked(URL):
            pass
        assert "conditional writes" in refused.value.remedy
        assert objects == {}
    finally:
        server.shutdown()
        server.server_close()


def test_a_store_that_is_not_there_is_refused_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    in_store(monkeypatch, f"http://{HOST}:{free_port()}")
    began = time.monotonic()
    with pytest.raises(InputError, match=f"{URL} cannot be read or written") as refused, locked(URL):
        pass
    assert "AWS_ENDPOINT_URL" in refused.value.remedy
    assert time.monotonic() - began < 30


# The lake without a session, and what a session is given


def no_session() -> Any:
    pytest.fail("a session was started")


def test_rows_of_remote_files_may_be_many() -> None:
    """The size of local files alone does not say that a source table fits into one partition."""
    rows: Any = None
    local = SourceTable("", "opa", rows, files=["/data/op.csv"], state={"/data/op.csv": (10, 0, 0)})
    mixed = replace(local, files=["/data/op.csv", "s3a://in/op.csv"])
    large = replace(local, state={"/data/op.csv": (1 << 30, 0, 0)})
    table = SourceTable("", "opa", rows)
    assert reader._are_few([local, local])
    assert not any(reader._are_few([local, other]) for other in (mixed, large, table))


def test_versions_come_from_the_names_of_the_log(store: Any) -> None:
    lake = Lake(no_session, LakeLocation(url=URL), "r")
    assert not lake.exists(RATE)
    log = f"{RATE.full_name}/_delta_log"
    for name in ("00000000000000000009.json", "00000000000000000010.json", "00000000000000000010.checkpoint.parquet",
                 "_last_checkpoint", "00000000000000000011.crc", ".tmp/00000000000000000012.json"):  # fmt: skip
        obstore.put(store, f"{log}/{name}", b"{}")
    assert lake.exists(RATE) and lake.version(RATE) == 10
    assert not lake.exists(RUN_LOG)
    assert lake.identifier(RATE) == f"`delta`.`{URL}/published/rate`"
    assert not lake.can_adopt(RATE)


def test_what_is_staged_is_removed_and_nothing_else(store: Any) -> None:
    kept = [f"{RATE.full_name}/_delta_log/00000000000000000000.json", "silver/_staging_of_mine/a.parquet", KEY]
    for name in ("silver/_staging/r/a/b.parquet", "silver/_staging/earlier/c.parquet", *kept):
        obstore.put(store, name, b"{}")
    area = StagingArea(Lake(no_session, LakeLocation(url=URL), "r"))
    assert not area.adoptable
    area.remove()
    assert sorted(item["path"] for item in obstore.list(store).collect()) == sorted(kept)


def test_a_check_says_what_it_found(store: Any, tmp_path: Path) -> None:
    tables = {"op": TableSource("op", ("s3a://in/op.csv",))}
    config = RunConfig(lake=LakeLocation(url=URL), sources=(Source("a", "hes", tables),))

    def lake() -> tuple[str, str]:
        (finding,) = (finding for finding in check_before_start(config, "ingest") if finding.check == "lake")
        return finding.result, finding.found

    assert lake() == (NOT_CHECKED, f"{URL}: it can be read (no lock); the right to write")
    with locked(URL):
        assert lake() == (NOT_CHECKED, f"{URL}: it can be read (locked by {LOCK}); the right to write")
    docs = {finding.check: finding.found for finding in check_before_start(config, "publish")}
    assert "the key `docs` names none" in docs["docs"] and "the key `report` names no file" in docs["report"]


def test_the_jars_of_a_store_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    delta = jars.local_jars()
    for jar in delta:
        (tmp_path / jar.name).symlink_to(jar)
    monkeypatch.setenv("EBI_SPARK_JARS", str(tmp_path))
    assert [jar.name for jar in jars.local_jars()] == [jar.name for jar in delta]
    with pytest.raises(InputError, match=r"hadoop-aws-.*s3a:// needs it") as refused:
        jars.local_jars(["s3a"])
    assert "make urls" in refused.value.remedy
    (tmp_path / next(jar["file"] for jar in jars._jar_list(["s3a"]) if "store" in jar)).write_bytes(b"another")
    with pytest.raises(InputError, match="sha256 differs"):
        jars.local_jars(["s3a"])
    with pytest.raises(InputError, match="gs://"):
        jars.local_jars(["gs"])
    config = RunConfig(lake=LakeLocation(url="gs://hospital/lake"))
    found = {finding.check: finding for finding in check_before_start(config, "validate")}
    assert found["lake"].result == REFUSED and "gs://" in found["lake"].found


def test_uploads_wait_in_the_folder_of_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert session.store_settings(tmp_path, []) == {}
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    uploads = {"spark.hadoop.fs.s3a.buffer.dir": str(tmp_path / "uploads")}
    assert session.store_settings(tmp_path, ["s3a"]) == uploads
    in_store(monkeypatch, "http://127.0.0.1:1")
    assert session.store_settings(tmp_path, ["s3a"]) == uploads | {
        "spark.hadoop.fs.s3a.endpoint.region": "eu-west-2",
        "spark.hadoop.fs.s3a.endpoint": "http://127.0.0.1:1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
    }


def test_temporary_files_are_closed_to_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = scratch.own_scratch()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert scratch.own_scratch() == folder
    folder.chmod(0o750)
    with pytest.raises(InputError, match="not a folder of this user alone"):
        scratch.own_scratch()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="not a folder of this user alone"):
        scratch.own_scratch()


# A real server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the S3 protocol with an empty bucket."""
    if not MOTO.is_file():
        pytest.skip("there is no S3 server: `make urls`")
    port = free_port()
    address = f"http://{HOST}:{port}"
    with service([MOTO, "-H", HOST, "-p", str(port)], tmp_path_factory.mktemp("server"), port):
        urllib.request.urlopen(urllib.request.Request(f"{address}/hospital", method="PUT"), timeout=30).close()
        yield address


def test_of_many_that_find_a_dead_owner_one_gets_it(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_store(monkeypatch, server)
    url = "s3a://hospital/contended"
    put(object_store._store(url), owned_by())
    script = (
        "import sys, time, pathlib\n"
        "from ebi_spark.lake.locking import locked\n"
        "from ebi_spark.errors import InputError\n"
        "try:\n"
        "    with locked(sys.argv[1]):\n"
        "        mine = pathlib.Path(sys.argv[2]); mine.touch(exist_ok=False); time.sleep(0.5); mine.unlink()\n"
        "except InputError:\n"
        "    sys.exit(2)\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, url, str(tmp_path / "inside")]) for _ in range(6)]
    ended = [process.wait() for process in started]
    assert set(ended) <= {0, 2} and 0 in ended
    with locked(url) as lock:  # and it can be had afterwards
        lock.name_java()
        lock.check()


State = dict[str, list[tuple[Any, ...]]]


def with_sources_at(state: State, before: str, now: str) -> State:
    """The rows as if their source files were in another place."""
    return {
        name: sorted(
            (tuple(v.replace(before, now) if isinstance(v, str) else v for v in row) for row in rows), key=repr
        )
        for name, rows in state.items()
    }


@pytest.mark.soak
def test_the_whole_job(
    server: str, spark: Any, one_session: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From sources at a URL into a lake at a URL: the same rows as from and in folders; nothing stays but the tables."""
    source, bucket = tmp_path / "source", "s3a://hospital/in"
    synthetic.generate(
        spark, source, years=["2021-22", "2022-23"], spells=600, attendances=1_200, seed=7, system="sus_plus",
        file_format="parquet", progress=lambda _: None,
    )  # fmt: skip
    done = answer_of(run.main, "--config", str(source / "run.yml"), "--lake", str(source / "local"))
    assert done["outcome"] == "done", done["error"]

    in_store(monkeypatch, server)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("EBI_SPARK_DRIVER_MEMORY", "2g")
    landing, text = object_store._store(bucket), (source / "run.yml").read_text(encoding="utf-8")
    for file in sorted((source / "data").glob("*/*.parquet")):
        obstore.put(landing, f"{file.parent.name}/{file.name}", file)
        text = text.replace(f'"data/{file.parent.name}/', f'"{bucket}/{file.parent.name}/')
    assert text.count(bucket) == 3  # apcs, apcs_der and opa
    (source / "remote.yml").write_text(f"{text}report: {tmp_path}/out/report.html\ndocs: {tmp_path}/out/docs\n")
    command = [sys.executable, "-m", "jobs.run", "--config", str(source / "remote.yml"), "--lake", URL, "--json"]
    called = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * WAIT, check=False)
    assert called.returncode == 0, called.stdout + called.stderr
    assert (tmp_path / "out" / "report.html").is_file()

    lake, copied = object_store._store(URL), tmp_path / "copied"
    for item in obstore.list(lake).collect():
        if not item["size"]:  # what Hadoop puts in the place of an empty folder
            continue
        target = copied / item["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bytes(obstore.get(lake, item["path"]).bytes()))
    assert not (copied / KEY).exists()
    others = [path for path in copied.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert all("_delta_log" in path.parts for path in others)
    local = end_state(source / "local")
    assert end_state(copied).keys() == local.keys()
    at_url = with_sources_at(end_state(copied), bucket, str(source / "data"))
    assert at_url == with_sources_at(local, bucket, str(source / "data"))
    # Neither uploads nor other temporary files are left.
    assert list(tmp_path.glob("ebi-spark-*")) and not list(tmp_path.glob("ebi-spark-*/*"))


def test_a_lock_that_has_ended_is_not_written_again(store: Any) -> None:
    lock = StoreLock(URL)
    lock.take()
    lock.release()
    lock.renew()
    assert not has_lock(store)
    with contextlib.suppress(InputError):
        lock.release()
