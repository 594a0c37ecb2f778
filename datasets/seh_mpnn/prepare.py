"""Turn the public weights of the sEH proxy into plain tensors: python prepare.py best_params.pkl.gz

The public file is a compressed pickle of 22 arrays. A pickle can run code when it is loaded, so it
is not loaded: its instructions are listed, and its blocks of bytes are read as float32 numbers. The
original was not at hand when this was written; the checksum of the content says whether that went
well.
"""

import argparse
import gzip
import pickletools
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gfn_design.errors import InputError
from gfn_design.files.registry import MODEL_SOURCES

ARRAYS = 22
SHAPES = {  # by place in the file; those left out belong to a head that scores stems
    0: ("lin0.weight", (64, 71)),
    1: ("lin0.bias", (64,)),
    2: ("conv.root", (64, 64)),
    3: ("conv.bias", (64,)),
    4: ("conv.edge_nn.0.weight", (128, 4)),
    5: ("conv.edge_nn.0.bias", (128,)),
    6: ("conv.edge_nn.2.weight", (4096, 128)),
    7: ("conv.edge_nn.2.bias", (4096,)),
    8: ("gru.weight_ih_l0", (192, 64)),
    9: ("gru.weight_hh_l0", (192, 64)),
    10: ("gru.bias_ih_l0", (192,)),
    11: ("gru.bias_hh_l0", (192,)),
    16: ("set2set.lstm.weight_ih_l0", (256, 128)),
    17: ("set2set.lstm.weight_hh_l0", (256, 64)),
    18: ("set2set.lstm.bias_ih_l0", (256,)),
    19: ("set2set.lstm.bias_hh_l0", (256,)),
    20: ("lin3.weight", (1, 128)),
    21: ("lin3.bias", (1,)),
}


def arrays(path: Path) -> list[NDArray[np.float32]]:
    """The numbers of every array, in the order of the file."""
    try:
        parts = [value for _, value, _ in pickletools.genops(gzip.decompress(path.read_bytes()))]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as a compressed pickle ({error}).") from error
    blocks = [p for p in parts if isinstance(p, bytes | bytearray) and len(p) and len(p) % 4 == 0]
    if len(blocks) != ARRAYS:
        raise InputError(f"{path} holds {len(blocks)} arrays, expected {ARRAYS}.")
    return [np.frombuffer(block, "<f4") for block in blocks]


def prepare(original: Path, output: Path) -> None:
    found = arrays(original)
    try:
        tensors = {name: found[i].reshape(shape).copy() for i, (name, shape) in SHAPES.items()}
    except ValueError as error:
        raise InputError(f"{original} holds arrays of other sizes ({error}).") from error
    part = output.with_name(f"{output.name}.part")
    save_file(tensors, part)
    source = MODEL_SOURCES["seh_mpnn"]
    if source.found_content(part) != source.content_sha256:
        part.unlink()
        raise InputError(f"{original} does not hold the published weights.")
    part.replace(output)


if __name__ == "__main__":
    name = MODEL_SOURCES["seh_mpnn"].download
    parser = argparse.ArgumentParser(description=f"Write {name} from the public file.")
    parser.add_argument("original", type=Path, help="best_params.pkl.gz as published")
    parser.add_argument("output", type=Path, nargs="?", default=Path(name))
    options = parser.parse_args()
    try:
        prepare(options.original, options.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")
