"""What the commands do that begin from a table of measurements."""

import argparse
from pathlib import Path

from gfn_design.errors import InputError

ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".smi", ".gz")
Overrides = list[tuple[str, str]]


def data(options: argparse.Namespace, overrides: Overrides) -> int:
    """Clean a table of measurements, and say whether there is anything to learn."""
    from gfn_design.files.measured import write_measured
    from gfn_design.files.measurements import Columns, read_measurements
    from gfn_design.files.objects import write_whole_aside
    from gfn_design.proxies.fit import data_of
    from gfn_design.proxies.rounds import appended, scored
    from gfn_design.proxies.telling import about_table, can_be_tested, learnable

    source: Path = options.table
    path = options.output or source.with_name(f"{stem(source)}_clean.csv")
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: the table is written as CSV; give --output a name in .csv")
    if path.resolve() == source.resolve():
        raise InputError(f"{path}: is the table itself; choose another --output")
    asked = Columns(
        options.column, options.value, options.to, options.unit, options.kind, options.strands
    )
    measured = read_measurements(source, asked)
    if options.predicted is not None:
        for line in scored(options.predicted, measured, options.strands):
            print(line)
    if options.append is not None:
        old = read_measurements(options.append, Columns(strands=options.strands))
        measured = appended(old, measured, options.strands, options.append)
    read = data_of(measured, options.strands)
    aside = path.with_name(f"{stem(source)}_set_aside.csv")
    for line in about_table(measured, read, aside):
        print(line)
    if measured.aside:
        write_whole_aside(measured.aside, aside)
    write_measured(measured, read.groups, path)
    print(learnable(read))
    print(f"written: {path}")
    if can_be_tested(read):
        print(f"next: gfn-design proxy {path}")
    return 0


def proxy(options: argparse.Namespace, overrides: Overrides) -> int:
    """Learn to predict what was measured, and say how far that can be trusted."""
    from gfn_design.config.build import import_class
    from gfn_design.files.measurements import Columns, read_measurements
    from gfn_design.files.tables import write_table
    from gfn_design.files.whole import whole_files
    from gfn_design.proxies.fit import fit_proxy
    from gfn_design.proxies.models import MODELS, own
    from gfn_design.proxies.networks import Networks
    from gfn_design.proxies.telling import about_proxy, held_out_table, of_model
    from gfn_design.results.proxy_plots import plot_proxy

    source: Path = options.table
    folder: Path = options.output or source.with_name(
        f"{stem(source).removesuffix('_clean')}_proxy"
    )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; choose another --output")
    if (folder / "proxy.safetensors").exists() and not options.overwrite:
        raise InputError(
            f"{folder}: holds a proxy already, which runs may ask; choose another --output, or "
            "give --overwrite"
        )
    if (folder / "config.yaml").exists():
        raise InputError(f"{folder}: holds a run; choose another --output")
    asked = Columns(options.column, options.value, None, None, options.kind, options.strands)
    measured = read_measurements(source, asked)
    models = dict(MODELS)
    for path in options.model or ():
        file, _, name = path.rpartition(":")
        if not Path(file).is_file():
            raise InputError(f"--model takes FILE.py:FUNCTION; there is no file '{file}'")
        try:
            make = import_class(path)
        except AttributeError as error:
            raise InputError(f"{file}: has no function '{name}'") from error
        models[name] = own(name, make)
    if options.networks:
        models[Networks.name] = Networks
    print(f"{len(measured.rows):,} objects; each model on held-out groups:", flush=True)
    fitted = fit_proxy(
        measured,
        source,
        options.strands,
        models,
        say=lambda *found: print(of_model(*found), flush=True),
        anyway=options.anyway,
    )
    for line in about_proxy(fitted):
        print(line)
    names = ("proxy.safetensors", "held_out.csv", "held_out.png")
    with whole_files(folder) as part:
        fitted.proxy.save(part / names[0])
        write_table(part / names[1], held_out_table(fitted))
        plot_proxy(fitted).savefig(part / names[2])
    print("written:", ", ".join(str(folder / name) for name in names))
    print(f"use it as a term: {{proxy: {folder / names[0]}, want: '>= ...'}} (or '<= ...')")
    return 0


def stem(path: Path) -> str:
    """The name of a file without what says what kind of file it is."""
    while path.suffix.lower() in ENDINGS:
        path = path.with_suffix("")
    return path.name
