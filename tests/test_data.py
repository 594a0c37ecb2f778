"""Tables of k-mers: the published facts, what is refused, and where files are found."""

import gzip
import importlib.util
import logging
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gfn_design.errors import InputError
from gfn_design.files import registry
from gfn_design.files.kmer_tables import diverse_modes, kmer_scores, read_modes, read_table
from gfn_design.files.registry import SOURCES, Source, content_sha256, locate, table_scores

EIGHT_MERS = np.array(list(map("".join, product("ACGT", repeat=8))))


def reverse_complement(kmer):
    return kmer[::-1].translate(str.maketrans("ACGT", "TGCA"))


def published_text(scores, length, extra=lambda index: "\t1.0\t2.0"):
    """Scores in the layout of the public files: each pair of strands once."""
    lines = [f"{length}-mer\t{length}-mer\tE-score\tMedian\tZ-score"]
    for index, kmer in enumerate(map("".join, product("ACGT", repeat=length))):
        if kmer <= (other := reverse_complement(kmer)):
            lines.append(f"{kmer}\t{other}\t{scores[index]:.5f}{extra(index)}")
    return "\n".join(lines) + "\n"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data_folder():
    if not os.environ.get("GFN_DESIGN_DATA"):
        pytest.skip("GFN_DESIGN_DATA names no folder with the public data")
    return Path(os.environ["GFN_DESIGN_DATA"])


@pytest.fixture(scope="session")
def six6(data_folder):
    return kmer_scores(data_folder / SOURCES["six6"].file)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no data folder, and no proxy between us and the local server."""
    folder = tmp_path / "cache"
    monkeypatch.delenv("GFN_DESIGN_DATA", raising=False)
    monkeypatch.setenv("GFN_DESIGN_CACHE", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


class TestPublishedTables:
    @pytest.mark.parametrize("name", SOURCES)
    def test_file_and_content_match_the_registry(self, name, data_folder):
        assert content_sha256(table_scores(name)) == SOURCES[name].content_sha256

    def test_facts_of_six6(self, six6):
        assert six6.shape == (65536,)
        assert six6.dtype == np.float32
        assert six6.min() == np.float32(-0.47907)
        assert six6.max() == np.float32(0.49105)
        assert list(EIGHT_MERS[six6 == six6.min()]) == ["GGCCGGCC"]
        assert list(EIGHT_MERS[six6 == six6.max()]) == ["AGGTATCA", "TGATACCT"]
        reward = (six6 - six6.min()) / (six6.max() - six6.min())
        assert np.median(reward) == pytest.approx(0.4393, abs=5e-5)
        assert (reward >= 0.9).sum() == 934

    def test_constants_of_the_card(self, six6):
        y = six6.astype(np.float64)
        y = (y - y.min()) / (y.max() - y.min())
        reward = 10 * np.maximum(y, 1e-3) ** 3
        assert reward.sum() == pytest.approx(95_048.93, abs=0.01)
        assert np.log(reward.sum()) == pytest.approx(11.462147, abs=1e-6)
        assert (reward**2).sum() / reward.sum() == pytest.approx(3.319955, abs=1e-6)

    def test_published_modes(self, six6, data_folder):
        path = data_folder / SOURCES["six6"].file
        published = read_modes(path, "is_mode_shen328")
        assert published.size == 328
        assert set(map(reverse_complement, EIGHT_MERS[published])) == set(EIGHT_MERS[published])
        assert np.array_equal(np.sort(diverse_modes(six6, 328, 4, 8)), published)
        threshold = read_modes(path, "is_mode_top0p5pct")
        assert threshold.size == 328
        assert np.intersect1d(threshold, published).size == 102

    def test_doubled_palindromes_change_nothing(self, six6, tmp_path):
        rows = zip(EIGHT_MERS, six6, strict=True)
        lines = [f"{k},{s}" for k, s in rows for _ in range(1 + (k == reverse_complement(k)))]
        assert len(lines) == 65_792
        path = write(tmp_path / "doubled.csv", "sequence,score\n" + "\n".join(lines))
        assert np.array_equal(kmer_scores(path), six6)

    def test_prepare_script_rebuilds_the_mirror(self, six6, data_folder, tmp_path):
        import pyarrow.parquet as pq

        script = Path(__file__).parents[1] / "datasets" / "six6" / "prepare.py"
        if not script.exists():
            pytest.skip("datasets/ belongs to the repository and not to the source package")
        spec = importlib.util.spec_from_file_location("prepare_six6", script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        mirror = pq.read_table(data_folder / SOURCES["six6"].file)
        median, z = (mirror[c].to_pylist() for c in ("median_intensity", "z_score"))
        text = published_text(six6, 8, lambda i: f"\t{median[i]}\t{z[i]}")
        module.prepare(write(tmp_path / "text.txt", text), tmp_path / "out.parquet")
        rebuilt = pq.read_table(tmp_path / "out.parquet")
        assert rebuilt.equals(mirror)
        assert rebuilt.schema.equals(mirror.schema)  # names and types
        other = write(tmp_path / "other.txt", published_text(six6[::-1], 8))
        with pytest.raises(InputError, match=r"other.txt is a complete table, but not that of SIX"):
            module.prepare(other, tmp_path / "other.parquet")


# Two letters over AB: small enough to write every bad table out.
GOOD = "kmer,score\nAA,1\nAB,2\nBA,3\nBB,4\n"


class TestReading:
    @pytest.mark.parametrize(
        "text",
        [
            GOOD,
            GOOD.replace(",", "\t"),
            GOOD.lower(),
            "\ufeff" + GOOD.replace("\n", "\r\n\r\n"),  # as spreadsheets write it
            "kmer,score\nBB,4\nAB,2\nBA,3\nAA,1\nAB,2.0\n",  # any order, agreeing repeat
            "\ufeffE-score,other,kmer\n1,9,AA\n2,9,AB\n3,9,BA\n4,9,BB\n",
            "kmer,mode,score\nAA,True,1\nAB,False,2\nBA,False,3\nBB,True,4\n",
            "note,2-mer,E score,other\nx,AA,1,9\nx,AB,2,9\nx,BA,3,9\nx,BB,4,9\n",
        ],
    )
    @pytest.mark.parametrize("ending", ["txt", "tsv", "csv", "csv.gz"])
    def test_text(self, tmp_path, text, ending):
        path = tmp_path / f"table.{ending}"
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
        scores = kmer_scores(path, "AB")
        assert scores.dtype == np.float32
        assert scores.tolist() == [1, 2, 3, 4]

    @pytest.mark.parametrize("score", ["E-score", "e_score", "ESCORE", None])
    def test_score_column_by_name(self, tmp_path, score):
        path = write(tmp_path / "t.csv", "kmer,Z-score,E-score\nA,5,1\nB,6,2\n")
        assert kmer_scores(path, "AB", score).tolist() == [1, 2]
        assert kmer_scores(path, "AB", "z score").tolist() == [5, 6]

    @pytest.mark.parametrize("second", ["2-mer", "reverse_complement", "Reverse Complement"])
    def test_second_strand_gets_the_same_score(self, tmp_path, second):
        text = published_text(np.arange(16), 2).replace("2-mer\t2-mer", f"2-mer\t{second}")
        scores = kmer_scores(write(tmp_path / "t.tsv", text))
        kmers = list(map("".join, product("ACGT", repeat=2)))
        canonical = [min(k, reverse_complement(k)) for k in kmers]
        assert scores.tolist() == [kmers.index(k) for k in canonical]
        rna = write(tmp_path / "rna.tsv", text.replace("T", "U"))
        assert np.array_equal(kmer_scores(rna, "ACGU"), scores)

    def test_parquet(self, tmp_path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = tmp_path / "run=3"  # not a partition column
        folder.mkdir()
        path = folder / "t.parquet"
        flags = [True, False, True, False]
        pq.write_table(
            pa.table({"k": ["BB", "AB", "BA", "AA"], "x": [4, 2, 3, 1], "f": flags}), path
        )
        assert kmer_scores(path, "AB").tolist() == [1, 2, 3, 4]
        assert read_modes(path, "f", "AB").tolist() == [2, 3]
        pq.write_table(pa.table({"k": ["AA", None, "BA", "AA"], "x": [4, 2, 3, 1]}), path)
        with pytest.raises(InputError, match=r"t\.parquet, row 2 holds None where a k-mer"):
            kmer_scores(path, "AB")
        pq.write_table(pa.table({"k": ["AA", "AB", "BA"], "x": [4, None, 3]}), path)
        with pytest.raises(InputError, match=r"t\.parquet, row 2: nan is not a finite number"):
            kmer_scores(path, "AB")
        pq.write_table(pa.table({"k": ["AA"], "x": [1.0]}).slice(0, 0), path)
        with pytest.raises(InputError, match=r"t\.parquet has no rows"):
            kmer_scores(path, "AB")

    def test_rows_as_listed(self, tmp_path):
        table = read_table(write(tmp_path / "t.tsv", "kmer\tkmer\tx\nAC\tGT\t1\nAA\tTT\t2\n"))
        assert table.sequences == ["AC", "AA"]
        assert table.partners == ["GT", "TT"]
        assert table.scores.tolist() == [1, 2]

    def test_modes_of_a_text_cover_both_strands(self, tmp_path):
        path = write(tmp_path / "t.csv", "kmer,reverse_complement,mode\nA,T,True\nC,G,False\n")
        assert read_modes(path, "mode").tolist() == [0, 3]
        path = write(tmp_path / "t.csv", "kmer,reverse_complement,mode\nA,T,1\nC,G,2\n")
        with pytest.raises(InputError, match=r"row 2 \(line 3\): column 'mode' is neither true"):
            read_modes(path, "mode")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("AB,2", "AX,2", r"row 2 \(line 3\): letter 'X' in 'AX' is not in the alphabet AB"),
            ("AB,2", "Aé,2", r"row 2 \(line 3\): letter 'é' in 'Aé' is not in the alphabet AB"),
            ("AB,2", "ABA,2", r"row 2 \(line 3\): k-mer 'ABA' has 3 letters, .* others have 2"),
            ("AB,2", ",2", r"row 2 \(line 3\): k-mer '' has 0 letters"),
            ("AB,2", "AB,nan", r"row 2 \(line 3\): 'nan' is not a finite number"),
            ("AB,2", "AB,-inf", r"row 2 \(line 3\): '-inf' is not a finite number"),
            ("AB,2", "AB,1e300", r"row 2 \(line 3\): '1e300' is not a finite number"),
            ("AB,2", "AB,two", r"row 2 \(line 3\): 'two' is not a finite number"),
            ("AA,1", "\nAA,", r"row 1 \(line 3\): '' is not a finite number"),
            ("AB,2", "AB,2,3", r"line 3 has 3 columns, but the first line has 2"),
            ("AB,2\n", "", r"lacks 1 of the 4 k-mers of length 2 over AB, the first being AB"),
            ("BB,4\n", "", r"lacks 1 of the 4 k-mers of length 2 over AB, the first being BB"),
            ("BB,4", "AA,4", r"lacks 1 .* BB"),
            ("BB,4", "BB,4\nAB,5", r"row 2 \(line 3\) and row 5 .* AB different .* 2\.0 and 5\.0"),
            ("kmer,score\n", "", r"must start with a line of column names"),
            (GOOD[11:], "", r"has no rows of data"),
            (GOOD, "", r"is empty"),
            (GOOD, "\n\n", r"has no rows of data"),
            (GOOD, "kmer\nAA\n", r"no E-score column and .* name one of its columns \['kmer'\]"),
            (GOOD, "kmer,p,q\nAA,1,2\n", r"name one of its columns \['kmer', 'p', 'q'\]"),
            (GOOD, f"kmer,p\n{'A' * 70},1\n", r"k-mers of 70 letters, not a complete table"),
        ],
    )
    def test_refuses(self, tmp_path, old, new, message):
        assert old in GOOD
        path = write(tmp_path / "t.csv", GOOD.replace(old, new))
        with pytest.raises(InputError, match=rf"t\.csv.*{message}"):
            kmer_scores(path, "AB")

    def test_refuses_an_unknown_column(self, tmp_path):
        path = write(tmp_path / "t.csv", GOOD)
        with pytest.raises(InputError, match=r"no column 'Median'; .* \['kmer', 'score'\]"):
            kmer_scores(path, "AB", "Median")

    def test_refuses_a_false_second_strand(self, tmp_path):
        path = write(tmp_path / "t.csv", "kmer,kmer,score\nA,T,1\nC,C,2\n")
        with pytest.raises(InputError, match=r"row 2 \(line 3\): C is not the reverse complement"):
            kmer_scores(path)

    def test_refuses_conflicting_strands(self, tmp_path):
        path = write(tmp_path / "t.csv", "kmer,kmer,score\nA,T,1\nC,G,2\nT,A,3\n")
        with pytest.raises(InputError, match=r"row 1 \(line 2\) and row 3 .* A different scores"):
            kmer_scores(path)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("t.parquet", b"AA,1", "not a parquet file"),
            ("t.parquet", b"PAR1" + bytes(40) + b"PAR1", "not a parquet file"),
            ("t.csv.gz", b"AA,1", "cannot be read"),
            ("t.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-12], "cannot be read"),
            ("t.csv", b"kmer,score\nA\xff,1\n", "letter 'ÿ' in"),
            ("t.xlsx", b"PK", "must end in .parquet, .csv, .tsv or .txt"),
            ("t.csv", None, "There is no file"),
        ],
    )
    def test_refuses_files(self, tmp_path, name, content, message):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            kmer_scores(tmp_path / name, "AB")


class TestDiverseModes:
    def test_skips_neighbours_and_breaks_ties_by_index(self):
        scores = np.array([3.0, 9, 5, 9, 8, 7, 9, 1, 2])  # 3-letter alphabet, length 2
        assert diverse_modes(scores, 2, 3, 2).tolist() == [1, 3]  # 01 and 10; 20 was the third
        assert diverse_modes(scores, 9, 3, 2).tolist() == [1, 3, 8]
        assert diverse_modes(scores, 4, 3, 2, distance=1).tolist() == [1, 3, 6, 4]

    @pytest.mark.parametrize("distance", [1, 2, 3, 4])
    def test_agrees_with_the_definition(self, distance):
        scores = np.random.default_rng(0).integers(0, 40, 3**5).astype(np.float32)
        words = np.array(list(product(range(3), repeat=5)))
        kept = []
        for best in np.argsort(-scores, kind="stable"):
            if all((words[best] != words[other]).sum() >= distance for other in kept):
                kept.append(best)
        assert diverse_modes(scores, 20, 3, 5, distance).tolist() == kept[:20]

    def test_refuses_another_size(self):
        with pytest.raises(ValueError, match=r"Expected 16 scores, got shape \(5,\)"):
            diverse_modes(np.zeros(5), 1, 4, 2)


TINY = np.array([min(i, 15 - i) / 8 for i in range(16)])
TINY_TEXT = published_text(TINY, 2)


class Handler(BaseHTTPRequestHandler):
    texts: dict[str, str]

    def do_GET(self):
        body = self.texts.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body) * (2 if self.path == "/cut" else 1)))
        self.end_headers()
        self.wfile.write(body)  # for /cut, the connection closes half-way

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """The address of a local server; ``Handler.texts`` says what it serves."""
    Handler.texts = {
        "/good": TINY_TEXT,
        "/cut": TINY_TEXT,
        "/other": TINY_TEXT.replace("0.12500", "0.12501"),
        "/page": "<html>\n<p>Sign in, please</p>\n</html>\n",
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Registers a small source at the given address."""
    path = write(tmp_path / "tiny.txt", TINY_TEXT)
    content = content_sha256(kmer_scores(path))

    def register(url):
        source = Source("tiny", "tiny/t.txt", "0" * 64, url, "tiny.txt", content, "none", "none")
        monkeypatch.setitem(SOURCES, "tiny", source)

    return register


class TestDownload:
    def test_success_is_quiet_and_cached(self, cache, server, tiny, capfd, caplog):
        tiny(f"{server}/good")
        with caplog.at_level(logging.INFO, logger=registry.__name__):
            path = locate("tiny")
        assert path == cache / "tiny.txt"
        assert list(cache.iterdir()) == [path]
        assert kmer_scores(path)[1] == np.float32(0.125)
        assert [record.getMessage() for record in caplog.records if record.levelname == "INFO"] == [
            f"Table tiny is read from {path}"
        ]
        assert capfd.readouterr() == ("", "")
        Handler.texts.clear()
        assert locate("tiny") == path

    def test_damaged_cache_is_replaced(self, cache, server, tiny):
        tiny(f"{server}/good")
        cache.mkdir()
        write(cache / "tiny.txt", TINY_TEXT[:60])
        assert locate("tiny").read_text() == TINY_TEXT

    def test_real_table(self, cache, server, six6, monkeypatch):
        Handler.texts = {"/six6": published_text(six6, 8)}
        source = Source(**{**vars(SOURCES["six6"]), "url": f"{server}/six6"})
        monkeypatch.setitem(SOURCES, "six6", source)
        assert np.array_equal(kmer_scores(locate("six6")), six6)

    @pytest.mark.parametrize(
        ("page", "message"),
        [
            (
                "other",
                r"/other did not give the published table: expected .* \w{12}…, got \w{12}…;",
            ),
            ("page", r"/page did not give the published table: expected .*, got no table;"),
            ("cut", r"/cut could not be downloaded \(\w+Error\); .*tiny/t\.txt in GFN_DESIGN_DATA"),
            ("gone", r"/gone could not be downloaded \(the server answered 404\); try again"),
        ],
    )
    def test_failure_leaves_nothing(self, cache, server, tiny, page, message):
        tiny(f"{server}/{page}")
        with pytest.raises(InputError, match=message):
            locate("tiny")
        assert list(cache.iterdir()) == []

    def test_no_network(self, cache, tiny):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        tiny(f"http://127.0.0.1:{port}/good")
        with pytest.raises(InputError, match=rf"{port}/good could not be downloaded \(Connection"):
            locate("tiny")
        assert list(cache.iterdir()) == []

    def test_what_no_public_file_holds_is_prepared(self, cache, data_folder, monkeypatch):
        source = SOURCES["qm9"]
        with pytest.raises(InputError, match=r"qm9str_11x5\.parquet is not there.*prepare\.py"):
            locate("qm9")
        cache.mkdir()
        write(cache / source.download, "another file")
        with pytest.raises(InputError, match=r"or not the published table"):
            locate("qm9")
        (cache / source.download).write_bytes((data_folder / source.file).read_bytes())
        assert locate("qm9") == cache / source.download

    def test_cache_cannot_be_made(self, cache, tiny):
        write(cache, "a file where the folder should be")
        tiny("http://127.0.0.1:1/good")
        with pytest.raises(
            InputError, match=r"cache folder .* name another one in GFN_DESIGN_CACHE"
        ):
            locate("tiny")


class TestDataFolder:
    def test_missing_file(self, cache, tmp_path, monkeypatch):
        monkeypatch.setenv("GFN_DESIGN_DATA", str(tmp_path))
        with pytest.raises(InputError, match=rf"{tmp_path}, but tfbind8/six6_ref_r1\.parquet is n"):
            locate("six6")

    def test_wrong_checksum(self, cache, tmp_path, monkeypatch, tiny):
        tiny("http://127.0.0.1:1/good")
        (tmp_path / "tiny").mkdir()
        write(tmp_path / "tiny" / "t.txt", TINY_TEXT)
        monkeypatch.setenv("GFN_DESIGN_DATA", str(tmp_path))
        with pytest.raises(
            InputError, match=r"t\.txt is not .* expected sha256 0{12}…, got \w{12}…"
        ):
            locate("tiny")

    def test_unknown_name(self):
        with pytest.raises(InputError, match=r"no table named 'six7'; choose one of six6, six6_r2"):
            locate("six7")
