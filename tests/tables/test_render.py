"""What is printed, cell by cell."""

import csv
import io

import pytest

from aaformer_lit.tables.collect import collect
from aaformer_lit.tables.compare import compare_rows
from aaformer_lit.tables.document import Document, Section, latex
from aaformer_lit.tables.join import join
from aaformer_lit.tables.render import FORMATS, Report
from table_tools import AAFORMER, LABELED, NEAREST, paper_table, write_run


def report(folder, name="table5", compare=None) -> Report:
    table = paper_table(name)
    columns, remarks = join(table, collect([folder]))
    comparisons = [compare_rows(column, compare, table.metrics, 50) for column in columns] if compare else []
    return Report(table, columns, comparisons, remarks)


@pytest.fixture
def runs(tmp_path):
    for seed, ap in enumerate((0.8, 0.7)):
        write_run(tmp_path / f"a{seed}", AAFORMER, seed, (0.803, ap))
    return tmp_path


def test_text_has_ours_the_papers_and_the_difference_and_says_what_was_not_run(runs):
    lines = [" ".join(line.split()) for line in FORMATS["txt"](report(runs)).splitlines()]
    assert "seeds Rank-1 paper diff mAP paper diff" in lines
    assert "Nearest Neighbor - not run 79.1 - not run 77.4 -" in lines
    assert "Optimal Transport 2 80.3 ± 0.0 80.3 +0.0 75.0 ± 7.1 79.0 -4.0" in lines
    assert "* no runs on msmt17" in lines


def test_metrics_without_a_number_of_the_papers_have_no_column_for_it(tmp_path):
    data = {"name": "market1501", "variant": "official", "as_published": True}
    write_run(tmp_path / "a", AAFORMER, 0, (0.9, 0.8), data=data)
    header = " ".join(FORMATS["txt"](report(tmp_path, "market1501")).splitlines()[5].split())
    assert header == "seeds Rank-1 paper diff mAP paper diff mAP, CLS alone mAP, parts alone"


def test_synthetic_people_never_stand_beside_the_papers_numbers(tmp_path):
    write_run(
        tmp_path / "a", AAFORMER, 0, (0.9, 0.8), data={"name": "synthetic", "variant": "ab", "as_published": False}
    )
    for form in ("txt", "md", "tex", "csv"):
        content = FORMATS[form](report(tmp_path))
        assert "80.3" not in content
        assert "84.4" not in content
        assert "90.0" in content
    write_run(tmp_path / "b", AAFORMER, 0, (0.7, 0.6))
    synthetic, real = reversed(FORMATS["md"](report(tmp_path)).split("### ")[1:3])
    assert synthetic.startswith("synthetic (ab)")
    assert "80.3" not in synthetic
    assert "| Optimal Transport | 1 | 70.0 | 80.3 | -10.3 | 60.0 | 79.0 | -19.0 |" in real


def test_markdown_and_latex_hold_the_same_cells(runs):
    markdown, latex = (FORMATS[form](report(runs)) for form in ("md", "tex"))
    assert "| Optimal Transport | 2 | 80.3 ± 0.0 | 80.3 | +0.0 | 75.0 ± 7.1 | 79.0 | -4.0 |" in markdown
    assert r"Optimal Transport & 2 & 80.3 $\pm$ 0.0 & 80.3 & +0.0 & 75.0 $\pm$ 7.1 & 79.0 & -4.0 \\" in latex
    assert r"\begin{tabular}{lrrrrrrr}" in latex


def test_latex_escapes_what_latex_would_read(tmp_path):
    write_run(tmp_path / "a", AAFORMER)
    assert r"\{2,3\} & 1" in FORMATS["tex"](report(tmp_path, "table6"))


def test_latex_prints_powers_and_tildes() -> None:
    lines = [["a^2 ~ b"]]
    assert r"a\textasciicircum{}2 \textasciitilde{} b" in latex(Document("", "", [Section("", [lines])]))


def test_csv_has_unrounded_numbers_and_empty_cells_for_what_was_not_run(runs):
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](report(runs)))))
    by = {(row["row"], row["metric"]): row for row in rows}
    ours = by["Optimal Transport", "mAP"]
    assert ours["seeds"] == "0 1"
    assert [float(ours[key]) for key in ("mean", "std", "paper", "difference")] == pytest.approx([75, 50**0.5, 79, -4])
    assert [by["Nearest Neighbor", "mAP"][key] for key in ("mean", "std", "seeds", "difference")] == [""] * 4


def test_without_any_run_the_paper_stands_alone(tmp_path):
    content = FORMATS["txt"](report(tmp_path))
    lines = [" ".join(line.split()) for line in content.splitlines()]
    assert "Optimal Transport 84.4 65.6 not run" in lines
    assert "Optimal Transport 80.3 79.0 not run" in lines


def test_other_peoples_rows_are_as_published(tmp_path):
    write_run(tmp_path / "a", AAFORMER, data={"name": "market1501", "variant": "official", "as_published": True})
    lines = [" ".join(line.split()) for line in FORMATS["txt"](report(tmp_path, "table2")).splitlines()]
    assert "ISP - as published 95.3 - as published 88.6 -" in lines


def test_other_peoples_rows_are_not_shown_for_other_data(tmp_path):
    write_run(tmp_path / "a", AAFORMER, data={"name": "synthetic", "variant": "ab", "as_published": False})
    content = FORMATS["txt"](report(tmp_path, "table2")).split("\n\n", 1)[1]  # without the headline
    assert "AAformer" in content
    assert "ISP" not in content


def test_comparisons_and_a_single_seed_are_told(tmp_path):
    write_run(tmp_path / "a", AAFORMER, 0, queries=[0.75, 1.0])
    write_run(tmp_path / "b", NEAREST, 0, queries=[0.5, 0.75])
    content = FORMATS["txt"](report(tmp_path, compare="nearest"))
    lines = [" ".join(line.split()) for line in content.splitlines()]
    assert "Optimal Transport - Nearest Neighbor mAP +25.0 +25.0 to +25.0 0.039 1 2" in lines
    assert "one seed: the intervals cover the choice of queries" in content


def test_two_recipes_are_two_tables_that_say_how_they_differ(runs):
    write_run(runs / "b", AAFORMER, 0, (0.5, 0.5), recipe="transreid", data=LABELED)
    content = FORMATS["txt"](report(runs))
    assert "differs from the other column(s) in recipe=paper" in content
    assert "differs from the other column(s) in recipe=transreid" in content
