import asyncio
import os
import time
from functools import partial

import pytest
from structlog.testing import capture_logs

from services.decoder.text_bank_location import Bucket, Directory, Version, open_location
from services.decoder.text_bank_store import TextBankStore
from tests.decoder.samples import MODEL, OTHER_MODEL, make_bank
from videoanalysis.errors import FailedPrecondition, NotFound, Unavailable
from videoanalysis.storage import S3Uri, Storage
from videoanalysis.v1.error_reason_pb2 import ErrorReason

MAX_BYTES = 1 << 20


class FakeLocation:
    """Files in a dictionary; raises `failure` where one is set."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = files or {}
        self.failure: Exception | None = None
        self.reads: list[str] = []

    async def versions(self):
        if self.failure:
            raise self.failure
        return {address: Version(str(hash(data)), len(data)) for address, data in self.files.items()}

    async def read(self, address, max_bytes):
        self.reads.append(address)
        if address not in self.files:
            raise NotFound("gone")
        return self.files[address]


async def store_of(location, max_bytes: int = MAX_BYTES) -> TextBankStore:
    store = TextBankStore(location, max_bytes)
    await store.refresh()
    return store


async def test_banks_of_several_names_and_models_lie_side_by_side():
    banks = [make_bank(), make_bank(model_digest=OTHER_MODEL), make_bank(name="sport")]
    store = await store_of(FakeLocation({f"{i}": bank.to_bytes() for i, bank in enumerate(banks)}))
    assert store.lookup("default", MODEL).digest == banks[0].digest
    assert store.lookup("default", OTHER_MODEL).digest == banks[1].digest
    assert [(bank.name, bank.model_digest) for bank in store.banks()] == [
        ("default", MODEL),
        ("default", OTHER_MODEL),
        ("sport", MODEL),
    ]


async def test_of_two_banks_with_one_name_and_model_the_newer_is_used():
    new = make_bank(seed=5, created_at="2026-03-01T00:00:00Z")
    store = await store_of(FakeLocation({"a": new.to_bytes(), "b": make_bank().to_bytes()}))
    assert store.lookup("default", MODEL).digest == new.digest
    assert len(store.banks()) == 1


async def test_a_missing_bank_is_not_found_and_the_message_lists_the_loaded_ones():
    store = await store_of(FakeLocation({"a": make_bank(name="sport").to_bytes()}))
    with pytest.raises(NotFound, match=r"no text bank 'default'; loaded: sport") as caught:
        store.lookup("default", MODEL)
    assert caught.value.reason == ErrorReason.TEXT_BANK_NOT_FOUND


async def test_a_missing_bank_that_is_expected_is_unavailable():
    store = TextBankStore(FakeLocation({}), MAX_BYTES, ["default"])
    await store.refresh()
    with pytest.raises(Unavailable, match=r"'default' is not loaded; loaded: none") as caught:
        store.lookup("default", MODEL)
    assert caught.value.reason == ErrorReason.BANK_NOT_READY


async def test_until_every_file_has_been_read_a_missing_bank_may_still_come():
    location = FakeLocation({"a": make_bank(name="sport").to_bytes()})
    store = TextBankStore(location, MAX_BYTES)
    with pytest.raises(Unavailable):
        store.lookup("default", MODEL)
    await store.refresh()
    with pytest.raises(NotFound):
        store.lookup("default", MODEL)


async def test_a_bank_of_another_model_is_a_mismatch_naming_both():
    store = await store_of(FakeLocation({"a": make_bank().to_bytes()}))
    with pytest.raises(FailedPrecondition) as caught:
        store.lookup("default", OTHER_MODEL)
    assert caught.value.reason == ErrorReason.BANK_MODEL_MISMATCH
    assert MODEL in caught.value.message
    assert OTHER_MODEL in caught.value.message


async def test_a_version_is_known_while_it_is_there_and_a_while_after_it_was_replaced():
    old, new = make_bank(), make_bank(seed=5)
    location = FakeLocation({"a": old.to_bytes()})
    store = await store_of(location)
    location.files["a"] = new.to_bytes()
    await store.refresh()
    assert store.lookup("default", MODEL).digest == new.digest
    assert store.lookup("default", MODEL, old.digest).digest == old.digest
    assert store.lookup("default", MODEL, new.digest).digest == new.digest
    for seed in (6, 7):
        location.files["a"] = make_bank(seed=seed).to_bytes()
        await store.refresh()
    with pytest.raises(FailedPrecondition, match=old.digest) as caught:
        store.lookup("default", MODEL, old.digest)
    assert caught.value.reason == ErrorReason.TEXT_BANK_REPLACED


async def test_an_unchanged_file_is_read_once():
    location = FakeLocation({"a": make_bank().to_bytes(), "bad": b"no bank"})
    store = await store_of(location)
    await store.refresh()
    assert sorted(location.reads) == ["a", "bad"]


async def test_a_changed_file_replaces_its_bank_and_a_removed_one_is_dropped():
    location = FakeLocation({"a": make_bank().to_bytes()})
    store = await store_of(location)
    changed = make_bank(seed=7)
    location.files["a"] = changed.to_bytes()
    await store.refresh()
    assert store.lookup("default", MODEL).digest == changed.digest
    location.files.clear()
    await store.refresh()
    assert store.banks() == []


@pytest.mark.parametrize("bad", [b"no bank", make_bank(seed=3).to_bytes() + bytes(MAX_BYTES)])
async def test_a_bad_file_is_refused_and_the_old_bank_stays(bad):
    location = FakeLocation({"a": make_bank().to_bytes()})
    store = await store_of(location)
    location.files["a"] = bad
    with capture_logs() as logs:
        await store.refresh()
        await store.refresh()
    assert store.lookup("default", MODEL).digest == make_bank().digest
    assert [(line["log_level"], line["address"], line["kept"]) for line in logs] == [("warning", "a", True)]
    location.files["a"] = make_bank(seed=7).to_bytes()
    await store.refresh()
    assert store.lookup("default", MODEL).digest == make_bank(seed=7).digest


async def test_a_file_over_the_limit_is_not_even_read():
    location = FakeLocation({"a": make_bank().to_bytes()})
    store = await store_of(location, max_bytes=10)
    assert store.banks() == []
    assert location.reads == []


async def test_a_location_that_is_away_leaves_the_banks_and_is_reported_once():
    location = FakeLocation({"a": make_bank().to_bytes()})
    store = await store_of(location)
    location.failure = Unavailable("storage did not answer")
    with capture_logs() as logs:
        await store.refresh()
        await store.refresh()
    assert len(logs) == 1
    assert store.lookup("default", MODEL)


async def test_a_file_that_vanishes_before_it_is_read_is_tried_again():
    location = FakeLocation({"a": make_bank().to_bytes()})
    versions = await location.versions()
    data = location.files.pop("a")

    async def stale():
        return versions

    location.versions = stale
    store = await store_of(location)
    assert store.banks() == []
    location.files["a"] = data
    await store.refresh()
    assert store.lookup("default", MODEL)


async def test_nothing_ends_the_following_of_a_location():
    location = FakeLocation({"a": make_bank().to_bytes()})
    location.failure = RuntimeError("a bug")
    store = TextBankStore(location, MAX_BYTES)
    with capture_logs() as logs:
        following = asyncio.create_task(store.refresh_forever(0.01))
        await store.refreshed.wait()
        assert logs[0]["event"] == "bug"
        location.failure = None
        async with asyncio.timeout(5):
            while not store.banks():  # noqa: ASYNC110 (the loop under test reports nothing)
                await asyncio.sleep(0.01)
    following.cancel()


async def test_a_store_without_a_location_is_empty():
    store = await store_of(None)
    assert not store.has_location
    with pytest.raises(NotFound, match="loaded: none"):
        store.lookup("default", MODEL)


async def test_a_directory_is_followed(tmp_path):
    directory = tmp_path / "banks"
    store = await store_of(Directory(directory))
    assert store.banks() == []

    directory.mkdir()
    path = directory / "default.safetensors"
    path.write_bytes(make_bank().to_bytes())
    (directory / "notes.txt").write_text("not a bank")
    (directory / "dangling.safetensors").symlink_to(tmp_path / "nowhere")
    await store.refresh()
    assert store.lookup("default", MODEL).digest == make_bank().digest

    # Same size, and a time that no coarse clock can hide.
    path.write_bytes(make_bank(seed=7).to_bytes())
    os.utime(path, (time.time() + 5, time.time() + 5))
    await store.refresh()
    assert store.lookup("default", MODEL).digest == make_bank(seed=7).digest

    path.unlink()
    await store.refresh()
    assert store.banks() == []


async def test_a_prefix_in_s3_is_followed(storage, bucket):
    store = await store_of(Bucket(storage, S3Uri(bucket, "textbanks/")))
    assert store.banks() == []

    uri = S3Uri(bucket, "textbanks/v1/default.safetensors")
    await storage.write(uri, make_bank().to_bytes(), "application/octet-stream")
    await storage.write(S3Uri(bucket, "textbanks/README.md"), b"not a bank", "text/plain")
    await storage.write(
        S3Uri(bucket, "textbanks-old/other.safetensors"), make_bank(name="old").to_bytes(), "application/octet-stream"
    )
    await store.refresh()
    assert [bank.digest for bank in store.banks()] == [make_bank().digest]

    await storage.write(uri, b"broken", "application/octet-stream")
    await store.refresh()
    assert store.lookup("default", MODEL).digest == make_bank().digest

    await storage.write(uri, make_bank(seed=7).to_bytes(), "application/octet-stream")
    await store.refresh()
    assert store.lookup("default", MODEL).digest == make_bank(seed=7).digest


async def test_a_bucket_that_does_not_exist_yet_is_waited_for(storage, bucket):
    store = await store_of(Bucket(storage, S3Uri(f"{bucket}-later", "textbanks/")))
    assert store.banks() == []
    await storage.create_bucket(f"{bucket}-later")
    await storage.write(
        S3Uri(f"{bucket}-later", "textbanks/a.safetensors"), make_bank().to_bytes(), "application/octet-stream"
    )
    await store.refresh()
    assert store.lookup("default", MODEL)


async def test_the_setting_names_a_location(s3_endpoint, s3_credentials, storage, bucket, tmp_path):
    await storage.write(S3Uri(bucket, "textbanks/a.safetensors"), make_bank().to_bytes(), "application/octet-stream")
    for prefix in (f"s3://{bucket}/textbanks", f"s3://{bucket}/textbanks/"):
        async with open_location(prefix, partial(Storage.open, s3_endpoint)) as location:
            assert list(await location.versions()) == [f"s3://{bucket}/textbanks/a.safetensors"]
    async with open_location(str(tmp_path), Storage.open) as location:
        assert isinstance(location, Directory)
    async with open_location("", Storage.open) as location:
        assert location is None
