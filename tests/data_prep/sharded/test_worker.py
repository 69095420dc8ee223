"""Shards of embeddings: killed and started again in any way, the rows are those of one process, each made once."""

import hashlib
import multiprocessing
import os
import random
import signal
import time
from contextlib import suppress

import numbered
import numpy as np
import pytest
from numbered import expected, work, worker

from al.errors import UserError
from data_prep.sharded.records import Done
from data_prep.sharded.store import Store

COUNT, SHARD = 61, 8
SHARDS = 8
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["numbered"])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    numbered.folder(root, COUNT)
    (root / "a" / "notes.txt").write_text("no image")
    (root / "a" / ".hidden.png").write_bytes(b"none of ours")
    return root


def check(out, numbers=range(COUNT)):
    """Every row is that of its image, and each shard is there."""
    store = Store(out)
    assert store.complete
    np.testing.assert_array_equal(np.load(out / "embeddings.npy", mmap_mode="r"), expected(numbers))
    digests = np.load(out / "contents.npy")
    for row in (0, len(numbers) // 2, len(numbers) - 1):
        assert digests[row].tobytes() == hashlib.sha256(numbered.content(numbers[row])).digest()
    assert len(store.seal().checksums) == len(store.manifest.shards) == len(list((out / "shards").glob("*.json")))


def start(target, *arguments, **options):
    process = FORKS.Process(target=target, args=arguments, kwargs=options)
    process.start()
    return process


class TestOneProcess:
    def test_makes_every_row_in_order(self, images, tmp_path):
        names = numbered.folder(tmp_path / "same", COUNT)
        assert work(images, tmp_path / "out") == COUNT
        check(tmp_path / "out")
        assert (tmp_path / "out" / "images.txt").read_text().splitlines() == names
        vectors = np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r")
        assert isinstance(vectors, np.memmap)
        assert vectors.dtype == np.float16

    def test_float32_is_what_was_computed(self, images, tmp_path):
        work(images, tmp_path / "out", dtype="float32")
        exact = numbered.encode(np.stack([numbered.pixels(number) for number in range(COUNT)]))
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "embeddings.npy"), exact)

    def test_a_second_time_computes_nothing(self, images, tmp_path):
        work(images, tmp_path / "out")
        again = worker(images, tmp_path / "out")
        again.encode = None
        assert list(again.run()) == []

    def test_yields_what_was_done_before_too(self, images, tmp_path):
        first = worker(images, tmp_path / "out")
        assert sum(first.make_if_free(3)) == SHARD
        assert not first.store.complete
        assert sum(first.make_if_free(3)) == 0
        assert work(images, tmp_path / "out") == COUNT

    def test_shards_begin_on_pages_of_their_own(self, images, tmp_path):
        assert worker(images, tmp_path / "out").store.vectors.path.stat().st_size == 4096 + 2 * 5 * COUNT
        assert np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r").offset == 4096


class TestKills:
    @pytest.mark.parametrize(
        ("operation", "nth"),
        [
            *(("replace", 1), ("replace", 2), ("replace", SHARDS + 2)),  # the manifest, a marker, the seal
            *(("pwrite", 2), ("fsync", 2), ("fsync", 3), ("fsync", 5), ("fsync", 3 * SHARDS + 3)),
        ],
    )
    def test_right_before_any_change_of_the_disk(self, images, tmp_path, operation, nth):
        out = tmp_path / "out"
        killed = start(numbered.work_until, operation, nth, images, out)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        assert not Store(out).complete
        work(images, out)
        check(out)

    def test_at_random_moments_of_four_workers(self, images, tmp_path):
        """Until all is done workers are killed and started; a shard that is done is never done again."""
        out, chance, kills, written = tmp_path / "out", random.Random(0), 0, {}
        workers = [start(work, images, out, slow=0.02) for _ in range(4)]
        deadline = time.monotonic() + 60
        while not Store(out).complete:
            assert time.monotonic() < deadline
            time.sleep(chance.uniform(0, 0.08))
            for marker in (out / "shards").glob("*.json"):
                with suppress(FileNotFoundError):
                    assert written.setdefault(marker.name, marker.stat().st_ino) == marker.stat().st_ino
            if kills < 25:
                victim = chance.randrange(4)
                workers[victim].kill()
                workers[victim].join()
                kills += workers[victim].exitcode == -signal.SIGKILL
                workers[victim] = start(work, images, out, slow=0.02)
        for process in workers:
            process.join()
        assert [process.exitcode for process in workers] == [0] * 4
        assert kills > 3
        check(out)

    def test_others_take_over_what_a_stopped_process_has_when_it_dies(self, images, tmp_path):
        out = tmp_path / "out"
        stopped = start(work, images, out, slow=0.3)
        while not (out / "shards" / "000000.lock").exists():
            time.sleep(0.01)
        os.kill(stopped.pid, signal.SIGSTOP)
        other = start(work, images, out)
        while Store(out).pending() != [0]:
            time.sleep(0.01)
        time.sleep(0.2)
        assert other.is_alive(), "it waits for the last shard"
        stopped.kill()
        other.join()
        assert other.exitcode == 0
        check(out)


class TestTwoAtOnce:
    def test_one_has_the_shard_and_the_other_goes_on_to_the_next(self, images, tmp_path):
        out, first = tmp_path / "out", worker(images, tmp_path / "out")
        with first.store.claim(0) as mine:
            assert mine
            process = start(work, images, out)
            while first.store.pending() != [0]:
                time.sleep(0.01)
        process.join()
        check(out)

    def test_both_begin_and_the_images_are_listed_once(self, images, tmp_path):
        processes = [start(work, images, tmp_path / "out") for _ in range(3)]
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 3
        check(tmp_path / "out")


class TestDamage:
    @pytest.mark.parametrize("text", ["", "{", '{"shard": 3}', "\x00" * 200])
    def test_of_a_marker_is_said_and_the_shard_made_again(self, images, tmp_path, capsys, text):
        out = tmp_path / "out"
        sum(worker(images, out).make_if_free(3))
        (out / "shards" / "000003.json").write_text(text)
        work(images, out)
        check(out)
        assert "000003.json: damaged; the shard is made again" in capsys.readouterr().err

    def test_a_marker_of_other_embeddings_does_not_count(self, images, tmp_path):
        out = tmp_path / "out"
        sum(worker(images, out).make_if_free(3))
        marker = out / "shards" / "000003.json"
        other = Done.model_validate_json(marker.read_bytes()).model_copy(update={"manifest": "another"})
        marker.write_text(other.model_dump_json())
        assert Store(out).pending() == list(range(SHARDS))

    def test_rows_that_did_not_reach_the_disk_are_made_again(self, images, tmp_path, capsys):
        """As after a power cut of a disk that lies about fsync."""
        out = tmp_path / "out"
        sum(worker(images, out).make_if_free(3))
        with (out / "embeddings.npy").open("r+b") as file:
            file.seek(4096 + 2 * 5 * (3 * SHARD + 2))
            file.write(bytes(8))
        work(images, out)
        check(out)
        assert "shard 3 is damaged; made again" in capsys.readouterr().err


class TestRefusals:
    @pytest.mark.parametrize(
        "changed",
        [{"shard_size": 9}, {"dtype": "float32"}, {"model": "id other"}, {"features_size": 32}, {"image_size": 8}],
    )
    def test_of_what_was_begun_otherwise(self, images, tmp_path, changed):
        worker(images, tmp_path / "out")
        (name, value), *_ = changed.items()
        with pytest.raises(UserError, match=f"{name}={value}: these embeddings were begun with {name}=") as error:
            worker(images, tmp_path / "out", **changed)
        assert "\n" not in str(error.value)

    def test_a_revision_that_only_one_knows_is_none(self, images, tmp_path):
        worker(images, tmp_path / "out")
        worker(images, tmp_path / "out", revision="abc")

    def test_other_images(self, images, tmp_path):
        worker(images, tmp_path / "out")
        numbered.folder(tmp_path / "few", 20)
        with pytest.raises(UserError, match=r"--data: has no .*png, which these embeddings were begun with"):
            worker(tmp_path / "few", tmp_path / "out")

    def test_no_images(self, tmp_path):
        with pytest.raises(UserError, match="no such folder"):
            worker(tmp_path / "nowhere", tmp_path / "out")
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="no images there"):
            worker(tmp_path / "empty", tmp_path / "out")

    def test_a_line_break_in_a_name(self, tmp_path):
        numbered.folder(tmp_path / "data", 3)
        (tmp_path / "data" / "a\nb.png").write_bytes(numbered.content(9))
        with pytest.raises(UserError, match=r"'a\\nb.png' holds a line break; rename"):
            worker(tmp_path / "data", tmp_path / "out")

    def test_a_damaged_manifest(self, images, tmp_path):
        worker(images, tmp_path / "out")
        (tmp_path / "out" / "manifest.json").write_text("{}")
        with pytest.raises(UserError, match=r"manifest\.json: not what was written; make the embeddings anew"):
            worker(images, tmp_path / "out")


class TestBrokenImages:
    @pytest.fixture
    def data(self, tmp_path):
        self.names = numbered.folder(tmp_path / "data", COUNT)
        for number in (11, 30):
            (tmp_path / "data" / self.names[number]).write_bytes(b"\x89PNG torn")
        (tmp_path / "data" / self.names[50]).unlink()
        (tmp_path / "data" / self.names[50]).symlink_to(tmp_path / "nowhere.png")
        return tmp_path / "data"

    def test_all_else_is_done_and_they_are_named(self, data, tmp_path, capsys):
        out = tmp_path / "out"
        with pytest.raises(UserError, match=f"3 images cannot be read, {self.names[11]} first") as error:
            work(data, out)
        assert "\n" not in str(error.value)
        said = capsys.readouterr().err.splitlines()
        assert said[0].startswith(f"{self.names[11]}: not a whole image (")
        assert said[2] == f"{self.names[50]}: cannot be read (No such file or directory)"
        assert Store(out).pending() == [11 // SHARD, 30 // SHARD, 50 // SHARD]
        for number in (11, 30, 50):
            (data / self.names[number]).unlink()
            (data / self.names[number]).write_bytes(numbered.content(number))
        work(data, out)
        check(out)

    def test_or_their_rows_are_zeros_and_the_others_as_without_them(self, data, tmp_path):
        out = tmp_path / "out"
        work(data, out, skip_broken=True)
        rows = expected(range(COUNT))
        rows[[11, 30, 50]] = 0
        np.testing.assert_array_equal(np.load(out / "embeddings.npy"), rows)
        assert Store(out).seal().broken == (11, 30, 50)
        assert not np.load(out / "contents.npy")[[11, 30, 50]].any()

    @pytest.mark.parametrize("number", [2, 12])
    def test_images_of_several_sizes_name_the_remedy(self, tmp_path, number):
        """In the first shard, or in another."""
        from PIL import Image

        names = numbered.folder(tmp_path / "data", 20)
        Image.new("RGB", (12, 12)).save(tmp_path / "data" / names[number])
        with pytest.raises(UserError, match=r"is 8 pixels high or wide and .* 12: .* --image-size=8"):
            work(tmp_path / "data", tmp_path / "out")

    def test_a_size_that_another_process_has_seen_is_the_size_of_all(self, tmp_path):
        """Or a folder of two sizes would go through where each process, or each start, meets one of them only."""
        from PIL import Image

        names = numbered.folder(tmp_path / "data", 16)
        for name in names[8:]:
            Image.new("RGB", (12, 12)).save(tmp_path / "data" / name)
        assert sum(worker(tmp_path / "data", tmp_path / "out").make_if_free(0)) == 8
        other = worker(tmp_path / "data", tmp_path / "out")
        other.encode = lambda batch: np.ones((len(batch), 5), np.float32)
        with pytest.raises(UserError, match=r"00000\.png is 8 pixels high or wide and .*00008\.png 12"):
            list(other.run())

    def test_vectors_that_are_no_numbers(self, images, tmp_path):
        broken = worker(images, tmp_path / "out")
        broken.encode = lambda batch: np.full((len(batch), 5), np.nan, np.float32)
        with pytest.raises(UserError, match="NaN or infinite vectors of some of the images"):
            list(broken.run())


class TestAFolderThatChanges:
    def test_is_said_when_all_is_done(self, tmp_path, capsys):
        names = numbered.folder(tmp_path / "data", 20)
        first = worker(tmp_path / "data", tmp_path / "out")
        (tmp_path / "data" / "b" / "new.png").write_bytes(numbered.content(99))
        assert sum(first.run()) == 20
        check(tmp_path / "out", range(20))
        assert "other images than the 20 that were listed, from b/new.png on" in capsys.readouterr().err
        (tmp_path / "data" / "b" / "new.png").unlink()
        first.store.tell_changes(first.source)
        assert not capsys.readouterr().err
        (tmp_path / "data" / names[7]).unlink()
        first.store.tell_changes(first.source)
        assert f"from {names[8]} on" in capsys.readouterr().err


class TestNoRoom:
    def test_is_seen_before_anything_is_computed(self, images, small_disk, monkeypatch):
        monkeypatch.setattr(numbered, "DIMENSIONS", 5000)
        with pytest.raises(
            UserError, match=r"No space left on device\); all of them take 0\.6 MiB; make room"
        ) as error:
            worker(images, small_disk / "out")
        assert "\n" not in str(error.value)
        assert not Store(small_disk / "out").begun

    def test_later_is_one_line_and_what_is_done_is_kept(self, images, small_disk):
        out = small_disk / "out"
        first = worker(images, out)
        sum(first.make_if_free(0))
        ballast = small_disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(1024)):
                pass
        with pytest.raises(UserError, match="No space left on device") as error:
            list(first.run())
        assert "\n" not in str(error.value)
        assert "make room there and give the same command again" in str(error.value)
        ballast.unlink()
        work(images, out)
        check(out)
