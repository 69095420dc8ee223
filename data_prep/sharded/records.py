"""What is written down beside sharded embeddings: what they are of, and which shards are done."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

FLOATS = ("float16", "float32")


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipe(_Written):
    """What a vector depends on besides its image; the same for all processes. The computation is float32 always."""

    model: str
    """Id on the Hub, or digest of the model's folder."""
    revision: str | None
    """Commit of a model of the Hub, where known."""
    features_size: int | None
    image_size: int | None
    dtype: Literal["float16", "float32"]
    """As the vectors are stored."""
    shard_size: int


class Shard(_Written):
    """Consecutive rows that one process makes at a time."""

    start: int
    stop: int
    offset: int
    """Where its first line begins in the list of images, in bytes."""
    tar: str = ""
    """The tar file that its images lie in; empty where they are files."""
    first: int = 0
    """The number of its first image within that tar file."""


class Manifest(_Written):
    """What the rows are; written once, before the first shard."""

    format: Literal[1] = 1
    recipe: Recipe
    images: int
    dimensions: int
    list_sha256: str
    """Of the list of images."""
    tars: tuple[str, ...]
    """The tar files that they lie in; none where they are files."""
    shards: tuple[Shard, ...]


class Done(_Written):
    """One shard is on disk."""

    manifest: str
    """SHA-256 of the manifest that it was made under."""
    shard: int
    checksum: str
    """CRC-32 of its vectors, and of the digests of its images' contents; eight hex digits each."""
    broken: tuple[int, ...]
    """Rows of images that could not be read: zeros."""


class Seal(_Written):
    """All shards are on disk, and hold what was written."""

    manifest: str
    checksums: tuple[str, ...]
    broken: tuple[int, ...]
