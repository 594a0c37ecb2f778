"""The public data files: what they are called, where they come from, how they are verified.

A file is taken from the folder named by the environment variable GFN_DESIGN_DATA, if it is set;
otherwise from the cache (GFN_DESIGN_CACHE, or the user's cache folder), into which it is downloaded
the first time. Nothing is trusted by its name: a wrong table would train without complaint.
"""

import gzip
import hashlib
import json
import logging
import os
import tempfile
import tomllib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gfn_design.errors import InputError
from gfn_design.files.kmer_tables import kmer_scores, number_of, read_columns

_log = logging.getLogger(__name__)


def _kmer_content(path: Path, alphabet: str = "ACGT", column: str | None = None) -> str | None:
    """The checksum of a table of k-mers, whatever its file; None of what is no such table."""
    try:
        return content_sha256(kmer_scores(path, alphabet, column))
    except InputError:
        return None


def _gzip_content(path: Path) -> str | None:
    """sha256 of what a gzip file holds; None of what is no such file."""
    try:
        return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    except (OSError, EOFError, zlib.error):
        return None


def _tensor_content(path: Path) -> str | None:
    """sha256 of what a file of tensors holds, in the order of their names; None of another file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return None
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _blocks_content(path: Path) -> str | None:
    """sha256 of blocks and their stems, whatever the file; None of what holds none."""
    try:
        content = json.loads(path.read_text())
        names, stems = content["block_smi"], content["block_r"]
        blocks = [[names[i], stems[i]] for i in sorted(names, key=int)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return hashlib.sha256(json.dumps(blocks).encode()).hexdigest()


def _mutant_content(path: Path) -> str | None:
    """sha256 of mutants and what was measured of them, sorted; None of what is no such table."""
    try:
        columns = read_columns(path)
        numbers = columns.values[columns.names.index("brightness")]
        mutants = columns.values[columns.names.index("mutations")]
        lines = sorted(
            f"{text or ''},{number_of(x):.4f}" for text, x in zip(mutants, numbers, strict=True)
        )
    except (InputError, ValueError):
        return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """One public data file.

    Two checksums, because the two files that may hold the data differ: ``sha256`` is that of the
    copy in a data folder, ``content_sha256`` that of what the original file holds.
    """

    name: str
    file: str
    """Path inside a data folder."""
    sha256: str
    url: str
    """Public address of the original file."""
    download: str
    """Name of the original file in the cache."""
    content_sha256: str
    """Of a table of k-mers see the function of the same name."""
    citation: str
    licence: str
    content: Literal["kmers", "gzip", "tensors", "blocks", "mutants"] = "kmers"
    """What ``content_sha256`` is of."""
    holds: Literal["E-scores", "energies", "blocks", "mutants"] = "E-scores"
    """What its numbers are about."""
    alphabet: str = "ACGT"
    """In index order."""
    column: str | None = None
    """Of the numbers; None where it needs no name."""
    first: int = 1
    """Of mutants, the number that the table gives the first letter of the wild type."""
    prepare: str = ""
    """What makes ``download`` where ``url`` is no table; nothing is downloaded then."""

    def found_content(self, path: Path) -> str | None:
        """What ``content_sha256`` is of a file; None if that holds something else."""
        if self.content == "kmers":
            return _kmer_content(path, self.alphabet, self.column)
        return {
            "gzip": _gzip_content,
            "tensors": _tensor_content,
            "blocks": _blocks_content,
            "mutants": _mutant_content,
        }[self.content](path)


def _listed() -> dict[str, dict[str, Source]]:
    """The sources of `sources.toml`, by what they are for."""
    listed = tomllib.loads(Path(__file__).with_name("sources.toml").read_text("utf-8"))
    alike = listed.pop("alike")
    found: dict[str, dict[str, Source]] = {}
    for kind, sources in listed.items():
        for name, own in sources.items():
            fields = alike.get(own.pop("alike", ""), {}) | own
            fields["url"] = fields["url"].format(download=fields["download"])
            found.setdefault(kind, {})[name] = Source(name=name, **fields)
    return found


_LISTED = _listed()
SOURCES = _LISTED["kmers"]
NETWORK_SOURCES = _LISTED["networks"]  # of variables: a line of names, then numbers
FRAGMENT_SOURCES = _LISTED["fragments"]  # fragments and the atoms by which they are joined
MUTANT_SOURCES = _LISTED["mutants"]  # of one protein, and what was measured of each
MODEL_SOURCES = _LISTED["models"]  # networks that give scores: tensors by name


def locate(name: str) -> Path:
    """The verified file of the named data, downloaded if need be."""
    known = SOURCES | NETWORK_SOURCES | FRAGMENT_SOURCES | MUTANT_SOURCES | MODEL_SOURCES
    if name not in known:
        raise InputError(f"There is no table named '{name}'; choose one of {', '.join(known)}.")
    source = known[name]
    folder = os.environ.get("GFN_DESIGN_DATA")
    path = _in_folder(source, Path(folder).expanduser()) if folder else _in_cache(source)
    _log.info("Table %s is read from %s", name, path)
    return path


def table_scores(name: str) -> NDArray[np.float32]:
    """The numbers of the named table in index order; see ``kmer_scores``."""
    path, source = locate(name), SOURCES[name]
    return kmer_scores(path, source.alphabet, source.column)


def content_sha256(scores: NDArray[np.floating]) -> str:
    """sha256 of the scores in index order, as little-endian float32."""
    return hashlib.sha256(scores.astype("<f4").tobytes()).hexdigest()


def _in_folder(source: Source, folder: Path) -> Path:
    path = folder / source.file
    if not path.is_file():
        raise InputError(
            f"GFN_DESIGN_DATA names the folder {folder}, but {source.file} is not there; put it "
            f"there, or unset GFN_DESIGN_DATA to download the table."
        )
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != source.sha256:
        raise InputError(
            f"{path} is not the published file: expected sha256 {source.sha256[:12]}…, got "
            f"{got[:12]}…; copy it anew, or unset GFN_DESIGN_DATA to download the table."
        )
    return path


def cache_folder() -> Path:
    """Where downloads and computed tables are kept; perhaps not there yet."""
    import pooch

    return Path(os.environ.get("GFN_DESIGN_CACHE") or pooch.os_cache("gfn-design")).expanduser()


def _in_cache(source: Source) -> Path:
    cache = cache_folder()
    path = cache / source.download
    # Checked at every use, a tenth of a second: the file may have been put there by hand.
    if path.is_file() and source.found_content(path) == source.content_sha256:
        return path
    if source.prepare:
        raise InputError(
            f"{path} is not there or not the published table, and {source.url} holds none that "
            f"could be downloaded as it is; make it with {source.prepare}, or name a folder that "
            f"holds {source.file} in GFN_DESIGN_DATA."
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=cache)
    except OSError as error:
        raise InputError(
            f"The cache folder {cache} cannot be written ({error.strerror}); name another one in "
            f"GFN_DESIGN_CACHE."
        ) from error
    with temporary as folder:
        part = Path(folder) / source.download
        _fetch(source, part)
        content = source.found_content(part)
        if content != source.content_sha256:
            got = f"{content[:12]}…" if content else "no table"
            raise InputError(
                f"{source.url} did not give the published table: expected checksum of the "
                f"content {source.content_sha256[:12]}…, got {got}; try again, or name a folder "
                f"that holds {source.file} in GFN_DESIGN_DATA."
            )
        # Only a verified file gets its final name, in one step: other processes may be waiting.
        os.replace(part, path)
    return path


def _fetch(source: Source, part: Path) -> None:
    import pooch

    try:
        # The bare downloader, because pooch.retrieve would write to the terminal.
        pooch.HTTPDownloader(timeout=30)(source.url, part, None)
    except OSError as error:  # every exception of requests is one
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"the server answered {status}" if status else type(error).__name__
        raise InputError(
            f"{source.url} could not be downloaded ({error.strerror or reason}); try again, or "
            f"name a folder that already holds {source.file} in GFN_DESIGN_DATA."
        ) from error
