"""The page as a whole: what stands in it, what does not, and what bad input does."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import tifffile
from PIL import Image

from eval.f1 import main as score
from eval.report import main
from eval.run_file import read_run
from tests.cells import draw_discs

EVIL = '<script>alert("1")<script>.png'
QUOTED = '"><img src=x onerror=alert(1)>.png'
VOID = {"meta", "input", "img", "wbr", "link"}
# Name in MODALITY/DATASET: true discs, predicted discs (y, x, radius), and size.
GOOD = [(30, 30, 9), (30, 70, 9), (60, 50, 9)]
SCENES = {
    "phase/one/a.png": (GOOD, GOOD, (90, 110)),
    f"phase/one/{EVIL}": (GOOD, [*GOOD[:1], (70, 20, 8)], (90, 110)),
    f"dic/two/{QUOTED}": (GOOD, [(60, 80, 9)], (90, 110)),
    "dic/two/wide.png": ([*GOOD, (40, 800, 20)], GOOD, (90, 900)),
    "dic/two/unpredicted.png": (GOOD, None, (90, 110)),
}
SECTIONS = [
    "scores",
    "distribution",
    "sizes",
    "errors",
    "images",
    "comparison",
    "time",
    "router",
    "method",
]


class Tree(HTMLParser):
    """Reads a page strictly: tags close in their order, ids are unique."""

    def __init__(self, page):
        super().__init__()
        self.open: list[str] = []
        self.tags, self.texts, self.ids = [], [], set()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        if "id" in values:
            assert values["id"] not in self.ids
            self.ids.add(values["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag):
        return [values for name, values in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def make_files(folder):
    """Write images, true labels and predictions of the scenes, and their run file."""
    rng = np.random.default_rng(0)
    for name, (true, pred, shape) in SCENES.items():
        labels = draw_discs(shape, true)
        group, stem = name.rsplit("/", 1)[0], name.rsplit("/", 1)[1].split(".")[0]
        for part in ("images", "gt", "seg"):
            (folder / part / group).mkdir(parents=True, exist_ok=True)
        pixels = np.clip(60 + 120 * (labels > 0) + rng.normal(0, 8, shape), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name)
        Image.fromarray(labels.astype(np.uint16)).save(folder / "gt" / name)
        if pred is not None:
            found = draw_discs(shape, pred).astype(np.uint16)
            tifffile.imwrite(folder / "seg" / group / f"{stem}_label.tiff", found)
    write_run(folder, "run.json", "seg")
    return folder


def write_run(folder, name, seg, *options):
    """Score a folder of predictions into a run file."""
    arguments = ["-g", folder / "gt", "-s", folder / seg, "--modality-by-folder"]
    arguments += ["--threshold", 0.5, 0.75, "--jobs", 1, "--json", folder / name, *options]
    assert score([str(argument) for argument in arguments]) == 1  # one prediction is missing


def make_report(folder, *options, expected=0):
    """Write the report of the files of a folder with its pictures; give its text."""
    inputs = ["-g", folder / "gt", "--images", folder / "images", "-s", folder / "seg"]
    arguments = [folder / "run.json", *inputs, "-o", folder / "report.html", *options]
    assert main([str(argument) for argument in arguments]) == expected
    return (folder / "report.html").read_text(encoding="utf-8") if expected == 0 else ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(folder):
    return make_report(folder)


@pytest.fixture(scope="module")
def tree(page):
    return Tree(page)


def test_the_page_has_every_section_as_a_named_landmark(tree):
    sections = tree.all("section")
    assert [values["id"] for values in sections] == SECTIONS
    assert all(values["aria-labelledby"] in tree.ids for values in sections)
    links = {values["href"] for values in tree.all("a")}
    assert {f"#{name}" for name in SECTIONS} <= links
    assert len(tree.all("main")) == len(tree.all("h1")) == len(tree.all("header")) == 1


def test_the_page_asks_nothing_of_the_network(page, tree):
    for tag, values in tree.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            if name in values:
                assert values[name].startswith(("#", "data:image/webp;base64,")), (tag, values)
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face", style)
    (policy,) = (v["content"] for v in tree.all("meta") if "http-equiv" in v)
    assert "default-src 'none'" in policy
    assert len(page) < 500_000


def test_references_inside_the_page_lead_somewhere(tree):
    for _, values in tree.tags:
        for name in ("aria-labelledby", "for", "aria-describedby"):
            assert set(values.get(name, "").split()) <= tree.ids
        if values.get("href", "").startswith("#"):
            assert values["href"][1:] in tree.ids
        for link in re.findall(r"url\(#(.*?)\)", values.get("fill", "")):
            assert link in tree.ids


def test_tables_have_captions_and_heads_with_a_scope(tree):
    assert len(tree.all("caption")) == len(tree.all("table")) > 4
    assert {values.get("scope") for values in tree.all("th")} == {"col", "row"}
    regions = [v for v in tree.all("div") if v.get("class") == "scroll"]
    assert all(v["tabindex"] == "0" and v["aria-label"] for v in regions)


def test_drawings_have_a_title_or_are_hidden_from_readers(tree):
    for values in tree.all("svg"):
        assert values.get("aria-hidden") == "true" or (
            values["role"] == "img" and values["aria-labelledby"]
        )


def test_names_from_files_are_text_and_never_markup(page, tree):
    assert len(tree.all("script")) == 1
    assert tree.all("img") == []
    assert not any(name.startswith("on") for _, values in tree.tags for name in values)
    assert EVIL in tree.text
    assert QUOTED in tree.text
    assert "<script>alert" not in page


def test_the_figures_are_those_of_the_run(folder, tree):
    run = read_run(folder / "run.json")
    for summary in run.summaries:
        assert f"{summary.f1_mean:.3f}" in tree.text
    total = run.summary("all")
    assert f"{total.f1_mean_low:.3f}\N{EN DASH}{total.f1_mean_high:.3f}" in tree.text
    assert "all cells count as missed: no prediction" in tree.text


def test_pictures_show_the_worst_first_and_leave_the_unpredicted_out(tree):
    slides = [values["data-name"] for values in tree.all("figure") if "data-name" in values]
    assert len(slides) == 4
    assert slides[0].startswith("1 of 4, worst: ")
    assert slides[0].endswith("F1 0.000")
    assert slides[2] == "3 of 4, best: a.png, F1 1.000"
    assert not any("unpredicted" in name for name in slides)
    part = re.search(r"90 by 640 px at row 0, column (\d+) of 90 by 900 px", tree.text)
    assert part is not None
    assert int(part[1]) <= 780  # the missed cell at column 800 is in the part that is shown
    assert int(part[1]) + 640 >= 820


def test_every_other_input_may_be_absent(folder):
    out = folder / "bare.html"
    assert main([str(folder / "run.json"), "-o", str(out)]) == 0
    text = Tree(out.read_text(encoding="utf-8")).text
    for said in ("No pictures", "no --against", "no --runtime", "no --router"):
        assert text.count(said) == 1


def test_files_that_are_missing_or_broken_are_named_beside_the_pictures(folder, tmp_path):
    make_files(tmp_path)
    (tmp_path / "images/phase/one/a.png").unlink()
    (tmp_path / "seg/dic/two/wide_label.tiff").write_bytes(b"II*\0 broken")
    Image.new("L", (20, 20)).save(tmp_path / f"images/phase/one/{EVIL}")
    text = Tree(make_report(tmp_path)).text
    assert "3 chosen images are not shown" in text
    assert "phase/one/a.png : not found: the image" in text
    assert "wide_label.tiff" in text
    assert "is 20 x 20 px, its labels are 90 x 110" in text


def test_all_inputs_together(folder):
    runtime = {
        "format": 1,
        "created": "2026-01-01T00:00:00Z",
        "commit": "abc",
        "machine": {"processor": "P", "cores": 2, "gpu": "", "memory_gib": 8},
        "runs": [
            {
                "system": "<b>ours</b>",
                "image": EVIL,
                "height": 90,
                "width": 110,
                "repeat": 0,
                "real_s": 12.5,
                "rank_s": 2.5,
                "exit_code": 0,
                "peak_host_mib": 300,
                "peak_gpu_mib": None,
                "gpu_mib_s": None,
                "stages": {"imports": 9, "network": 3},
            }
        ],
    }
    counts = {"a": {"a": 3, "b": 1}, "b": {"a": 0, "b": 2}}
    matrix = {"images": 6, "right": 5 / 6, "counts": counts}
    routing = {"modality": matrix, "expert": matrix, "errors": {"a/x": {"images": 4, "b": 1}}}
    write_run(folder, "other.json", "seg", "--name", "other <i>system</i>")
    for name, plain in (("runtime.json", runtime), ("router.json", routing)):
        (folder / name).write_text(json.dumps(plain))
    names = {"--against": "other", "--runtime": "runtime", "--router": "router"}
    options = [word for key, name in names.items() for word in (key, folder / f"{name}.json")]
    tree = Tree(make_report(folder, *options))
    assert tree.all("b") == [v for v in tree.all("b") if "href" not in v]
    for said in (
        "<b>ours</b>",
        "other <i>system</i>",
        "1 of 1 processes are above it",
        "0.833 of 6 images right",
        "1 to b",
        "within noise",
    ):
        assert said in tree.text
    assert tree.all("i") == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 2}', '{"format": 1, "images": []}', b"\xff\xfe\x00"],
)
@pytest.mark.parametrize("option", [None, "--against", "--runtime", "--router"])
def test_a_file_of_another_kind_is_named(folder, tmp_path, caplog, content, option):
    bad = tmp_path / "bad.json"
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    good = str(folder / "run.json")
    arguments = [str(bad)] if option is None else [good, option, str(bad)]
    out = tmp_path / "report.html"
    assert main([*arguments, "-o", str(out)]) == 2
    assert "bad.json: no " in caplog.text
    assert not out.exists()


def test_a_run_without_counts_at_its_threshold_is_refused(folder, tmp_path, caplog):
    plain = json.loads((folder / "run.json").read_text())
    plain["thresholds"] = [0.5, 0.9]
    (tmp_path / "run.json").write_text(json.dumps(plain))
    assert main([str(tmp_path / "run.json"), "-o", str(tmp_path / "report.html")]) == 2
    assert "no counts at 0.9" in caplog.text


def test_arguments_that_do_not_fit_are_refused(folder, tmp_path, caplog):
    run = str(folder / "run.json")
    assert main([run, "-s", str(folder / "seg"), "-o", str(tmp_path / "a.html")]) == 2
    assert "--data" in caplog.text
    assert main([run, "-o", str(tmp_path / "none" / "a.html")]) == 2
    assert main([str(tmp_path / "none.json"), "-o", str(tmp_path / "a.html")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_images_has_a_page(folder, tmp_path):
    plain = json.loads((folder / "run.json").read_text())
    plain |= {"images": [], "summaries": []}
    (tmp_path / "run.json").write_text(json.dumps(plain))
    out = tmp_path / "report.html"
    assert (
        main([str(tmp_path / "run.json"), "--against", str(folder / "run.json"), "-o", str(out)])
        == 0
    )
    text = Tree(out.read_text(encoding="utf-8")).text
    assert "No image was scored" in text
    assert "cannot be compared" in text
