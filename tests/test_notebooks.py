"""The notebooks run from top to bottom, and are committed with what they show.

After an edit, `REFRESH_NOTEBOOKS=1 pytest tests/test_notebooks.py` writes the new outputs.
"""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 600_000  # bytes of a file

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: nbformat.NotebookNode) -> set[str]:
    """What a cell shows: text, pictures; what libraries say on stderr does not count."""
    shown = {kind for output in cell.outputs for kind in output.get("data", {})}
    return shown | {o.name for o in cell.outputs if o.output_type == "stream"} - {"stderr"}


def words(notebook: nbformat.NotebookNode) -> str:
    """Everything a notebook says, without its pictures."""
    stripped = json.loads(nbformat.writes(notebook))
    for cell in stripped["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    return json.dumps(stripped)


def anchors(markdown: str) -> set[str]:
    """The names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ +(.+?) *$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_the_committed_notebook_is_whole(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size < LARGEST
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert "execution" not in cell.metadata, "holds timestamps"
        assert not any(output.output_type == "error" for output in cell.outputs)
        assert not any(output.get("name") == "stderr" for output in cell.outputs)
        if "print(" in cell.source:
            assert "stdout" in kinds(cell), cell.source
        if "plt.show(" in cell.source:
            assert "image/png" in kinds(cell), cell.source


def test_the_committed_notebook_names_no_place_of_its_author(path):
    found = re.findall(r"(?<![\w.])/(?:work|root|home|tmp|Users)\b[^\s\"]*", words(read(path)))
    assert not found


def test_relative_links_lead_somewhere(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("GFN_DESIGN_DATA"), reason="GFN_DESIGN_DATA is not set")
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own draws into the notebook
    monkeypatch.setenv("GFN_DESIGN_DATA", str(Path(os.environ["GFN_DESIGN_DATA"]).resolve()))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    committed, fresh = read(path), read(path)
    for cell in code_cells(fresh):
        cell.outputs, cell.execution_count = [], None
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(
        fresh, timeout=600, resources=place, record_timing=False, coalesce_streams=True
    ).execute()
    if os.environ.get("REFRESH_NOTEBOOKS"):
        fresh.metadata.language_info = {"name": "python"}
        nbformat.write(fresh, path)
        return
    for here, there in zip(code_cells(committed), code_cells(fresh), strict=True):
        assert kinds(here) == kinds(there), f"refresh the notebook: {here.source}"
