"""Configuration: typed constructors are the schema of a run.

A run is a YAML mapping whose sections are the arguments of constructors; an object is written
`{class_path: X, init_args: {...}}`, or `X` alone. `load` composes and checks it from source files,
without importing torch; `build_section` imports and instantiates.
"""

from gfn_design.config.build import build_arguments, build_section, import_class
from gfn_design.config.check import Object, Root, Spec, check, describe
from gfn_design.config.compose import Config, Overrides, dump, load, read
from gfn_design.config.schema import REQUIRED, Parameter, Signature, known, signature

__all__ = [
    "REQUIRED",
    "Config",
    "Object",
    "Overrides",
    "Parameter",
    "Root",
    "Signature",
    "Spec",
    "build_arguments",
    "build_section",
    "check",
    "describe",
    "dump",
    "import_class",
    "known",
    "load",
    "read",
    "signature",
]
