"""Object storage behind its address: whole objects through interrupts and outages, against a real S3 server."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from robustcore.addresses import check_address, without_secrets
from robustcore.clients import resolved
from robustcore.errors import InputError
from robustcore.once import computed_once
from robustcore.storage import Folder, StorageLost
from tests.object_store import BUCKET, Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def folder(server: Server, request: pytest.FixtureRequest) -> Folder:
    return Folder(f"s3://{BUCKET}/{request.node.name}/study")


@pytest.mark.parametrize("options", ["", "?region=eu-west-1", "?endpoint_override={server}&scheme=http"])
def test_what_is_written_is_read_named_and_removed(options: str, server: Server) -> None:
    place = Folder(f"s3://{BUCKET}/a{options.format(server=server.url.partition('//')[2])}").at("b/c")
    assert place.names() == []
    with pytest.raises(FileNotFoundError):
        place.read("one")
    place.write("two", b"2")
    place.write("one", b"1")
    place.write("one", b"1 again")
    place.at("below").write("other", b"")
    assert place.names() == ["one", "two"]
    assert (place.read("one"), place.at("below").read("other")) == (b"1 again", b"")
    assert place.local is None
    for name in ("one", "one", "two"):
        place.remove(name)
    assert place.names() == []
    place.at("below").remove("other")


def test_a_reader_finds_one_whole_object_or_the_other(folder: Folder) -> None:
    contents = [bytes([number]) * (12_000_000 + number) for number in range(2)]  # more than one part of an upload
    folder.write("one", contents[0])
    threads = [threading.Thread(target=folder.write, args=("one", contents[number % 2])) for number in range(1, 3)]
    for thread in threads:
        thread.start()
        while thread.is_alive():
            assert folder.read("one") in contents


WRITER = """
import itertools, signal, sys
from robustcore.storage import Folder
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever shell began this
folder = Folder(sys.argv[1])
for number in itertools.count():
    folder.write("one", bytes([number % 20]) * 100_000)
    if number == 0:
        print("begun", flush=True)
    if number == 2000:
        sys.exit("nobody has interrupted this")
"""


def test_who_is_interrupted_while_it_writes_leaves_a_whole_object(folder: Folder) -> None:
    places = [folder.at(str(number)) for number in range(4)]
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, place.uri], stdout=PIPE, stderr=PIPE) for place in places]
    for number, (place, writer) in enumerate(zip(places, writers, strict=True)):
        assert writer.stdout.readline() == b"begun\n"
        time.sleep(0.003 * number)
        while writer.poll() is None:  # Python passes over an interrupt that comes while it tidies up
            writer.send_signal(signal.SIGINT)
            time.sleep(0.5)
        _, said = writer.communicate()
        assert writer.returncode != 0
        assert b"KeyboardInterrupt" in said
        assert place.read("one") in {bytes([number]) * 100_000 for number in range(20)}


def test_a_kept_folder_waits_for_a_server_that_is_away(server: Server, folder: Folder) -> None:
    folder.write("there", b"here")
    kept, done = folder.kept(60), []
    server.stop()
    threads = [
        threading.Thread(target=lambda: done.append(kept.read("there"))),
        threading.Thread(target=lambda: done.append(kept.write("one", b"1"))),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert done == []
    server.start()
    for thread in threads:
        thread.join()
    assert set(done) == {b"here", None}
    assert folder.names() == ["one", "there"]


@pytest.mark.parametrize("patience", [0, 0.5])
def test_a_server_that_stays_away_is_a_sentence(patience: float, server: Server, folder: Folder) -> None:
    kept = folder.kept(patience)
    server.stop()
    try:
        for action in (lambda: kept.write("one", b"1"), lambda: kept.read("one"), kept.names):
            with pytest.raises(StorageLost, match=r"s3://.* cannot be used: .*[Cc]ould not connect") as error:
                action()
            assert ("tried for 0.5 s" in str(error.value)) == bool(patience)
            assert "\n" not in str(error.value)
    finally:
        server.start()


def test_a_bucket_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(StorageLost, match="bucket does not exist"):
        Folder("s3://nobodys/a").write("one", b"1")


def test_machines_share_what_one_has_computed_and_go_on_alone_where_they_cannot(
    server: Server, folder: Folder, tmp_path: Path
) -> None:
    calls = []

    def compute(place: Path) -> None:
        calls.append(place)
        place.write_bytes(b"computed")

    def on(machine: str, key: str) -> bytes:
        return computed_once(tmp_path / machine, key, ".npy", compute, folder.uri).read_bytes()

    assert [on(machine, "key") for machine in ("one", "other", "one")] == [b"computed"] * 3
    assert len(calls) == 1
    server.stop()
    try:
        assert on("third", "key") == b"computed"
    finally:
        server.start()
    assert len(calls) == 2
    assert on("third", "other key") == b"computed"
    assert len(folder.names()) == 2


WRONG = [
    ("s3://key:secret@bucket/x", "no password or key in an address.* AWS_SECRET_ACCESS_KEY"),
    ("s3://key:sec/ret@bucket/x", "no password or key"),
    ("gs://user:secret@bucket/x", "GOOGLE_APPLICATION_CREDENTIALS"),
    ("abfs://container:secret@account.dfs.core.windows.net/x", "AZURE_CLIENT_SECRET"),
    ("abfs://container@account.dfs.core.windows.net/x?client_secret=secret", "no password or key"),
    ("s4://bucket/x", r"got 's4://\.\.\.'; did you mean 's3://'"),
    ("https://user:secret@host/x", r"got 'https://\.\.\.'"),
    ("s3:///x", "got no bucket"),
    ("s3://bucket/x?regin=secret", "unknown option 'regin'.*; did you mean 'region'"),
]


@pytest.mark.parametrize(("address", "words"), WRONG)
def test_an_address_that_is_wrong_or_holds_a_secret_is_refused_without_repeating_it(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        check_address(address)
    with pytest.raises(InputError, match=words):
        resolved(address)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        *("/a/b", "runs", "s3://bucket", "s3://bucket/a?region=x&scheme=http&endpoint_override=http://127.0.0.1:9000"),
        *("gs://anonymous@bucket/a", "abfs://container@account.dfs.core.windows.net/a", "hdfs://host:8020/a@b"),
    ],
)
def test_what_holds_no_secret_is_an_address_and_shown_as_it_is(address: str) -> None:
    check_address(address)
    assert without_secrets(f"cannot write to {address} (so)") == f"cannot write to {address} (so)"


def test_the_clients_of_other_clouds_are_there() -> None:
    """None of them is asked for anything: only their addresses are understood."""
    assert resolved("gs://anonymous@bucket/a/b")[1] == "bucket/a/b"
    filesystem, place = resolved("abfs://container@account.dfs.core.windows.net/a/b")
    assert (filesystem.type_name, place) == ("abfs", "container/a/b")
