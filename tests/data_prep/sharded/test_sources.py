"""Where images come from: tar files as WebDataset reads them, and what is said of those that do not serve."""

import io
import sys
import tarfile

import numbered
import numpy as np
import pytest
from numbered import expected, work, worker

from al.errors import UserError
from data_prep.sharded.sources import Folder, source_of
from data_prep.sharded.store import Store

PER_TAR = 10


def write_tar(path, numbers, **more: bytes):
    """Samples of an image with a class, and one of text alone; the members of `more` come first."""
    with tarfile.open(path, "w") as tar:
        members = dict(more)
        for number in numbers:
            members |= {f"{number:04}.cls": b"3", f"{number:04}.PNG": numbered.content(number)}
        members |= {"words.txt": b"no image", "__meta__/about.png": b"no sample"}
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))


@pytest.fixture
def tars(tmp_path):
    pytest.importorskip("webdataset")
    for tar in range(3):
        write_tar(tmp_path / f"s-{tar}.tar", range(PER_TAR * tar, PER_TAR * (tar + 1)))
    return f"{tmp_path}/s-{{0..2}}.tar"


class TestTarFiles:
    @pytest.mark.parametrize("shard_size", [4, 10, 64])
    def test_rows_are_in_the_order_of_the_files(self, tars, tmp_path, shard_size):
        """A file is one shard, or several of the same size and a rest; no shard is of two files."""
        out = tmp_path / "out"
        assert work(tars, out, shard_size=shard_size) == 30
        np.testing.assert_array_equal(np.load(out / "embeddings.npy"), expected(range(30)))
        assert (out / "images.txt").read_text().splitlines()[11] == "s-1.tar/0011.PNG"
        sizes = [shard.stop - shard.start for shard in Store(out).manifest.shards]
        assert sizes == {4: [4, 4, 2] * 3, 10: [10] * 3, 64: [10] * 3}[shard_size]

    def test_of_a_sample_the_first_image_counts(self, tmp_path):
        pytest.importorskip("webdataset")
        write_tar(tmp_path / "s.tar", [5], **{"0004.seg.png": b"", "0004.png": numbered.content(4)})
        work(f"{tmp_path}/s.tar", tmp_path / "out")
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "embeddings.npy"), expected([4, 5]))

    def test_a_broken_image_is_named(self, tmp_path):
        pytest.importorskip("webdataset")
        write_tar(tmp_path / "s.tar", [5], **{"0004.png": b"torn"})
        with pytest.raises(UserError, match=r"1 images cannot be read, s\.tar/0004\.png first"):
            work(f"{tmp_path}/s.tar", tmp_path / "out")

    @pytest.mark.parametrize("numbers", [range(9), [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]])
    def test_that_were_changed_meanwhile(self, tars, tmp_path, numbers):
        begun = worker(tars, tmp_path / "out")
        write_tar(tmp_path / "s-0.tar", numbers)
        with pytest.raises(UserError, match=r"s-0\.tar: holds other images than .*; put the file back") as error:
            list(begun.run())
        assert "\n" not in str(error.value)

    def test_that_are_torn(self, tars, tmp_path):
        (tmp_path / "s-1.tar").write_bytes((tmp_path / "s-1.tar").read_bytes()[:2000])
        with pytest.raises(UserError, match=r"s-1\.tar: cannot be read \(.*put a whole one there"):
            work(tars, tmp_path / "out")

    def test_more_of_them_are_other_embeddings(self, tars, tmp_path):
        worker(tars, tmp_path / "out")
        with pytest.raises(UserError, match="--data: 2 tar files, and these embeddings were begun with 3"):
            worker(tars.replace("0..2", "0..1"), tmp_path / "out")

    @pytest.mark.parametrize(
        ("data", "said"),
        [("s-{0..3}.tar", r"s-3\.tar is not there"), ("s-{0,0}.tar", "twice"), ("s-{0.tar", "is not there|not close")],
    )
    def test_patterns_that_do_not_serve(self, tars, tmp_path, data, said):
        with pytest.raises(UserError, match=said):
            source_of(f"{tmp_path}/{data}")

    def test_without_the_library_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "webdataset", None)
        with pytest.raises(UserError, match=r"pip install 'active-learning-swept\[webdataset\]'"):
            source_of("s.tar")


def listed(folder) -> list[str]:
    ((_, names),) = Folder(folder).groups()
    return list(names)


def test_a_folder_is_listed_as_a_proposal_has_it(tmp_path):
    from labelling.photos import find_photos
    from labelling.project import STATE

    names = numbered.folder(tmp_path / "data", 40)
    (tmp_path / "data" / STATE).mkdir()
    (tmp_path / "data" / STATE / "sheet.png").write_bytes(numbered.content(99))
    assert listed(tmp_path / "data") == names
    assert [photo.path for photo in find_photos(tmp_path / "data", tmp_path / "cache").photos] == names


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    names = numbered.folder(tmp_path / "data", 5)
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").write_bytes(numbered.content(99))
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere")
    assert listed(tmp_path / "data") == [*names, "c/x.png"]


def test_links_between_two_folders_are_followed_once(tmp_path):
    for here, there in (("a", "b"), ("b", "a")):
        (tmp_path / "data" / here).mkdir(parents=True)
        (tmp_path / "data" / here / f"{here}.png").write_bytes(numbered.content(1))
        (tmp_path / "data" / here / "to").symlink_to(f"../{there}")
    (tmp_path / "data" / "loop.png").symlink_to("loop.png")
    assert listed(tmp_path / "data") == ["a/a.png", "a/to/b.png", "b/b.png", "b/to/a.png", "loop.png"]
