from aaformer_lit.viz import Dot, table_plot

ROWS = ["baseline", "AAformer", "pooling"]
PANELS = {
    "Rank-1": [Dot(79.0, 0.5, 79.7), Dot(84.1, None, 84.4), Dot(paper=81.3)],
    "mAP": [Dot(58.0, 0.25, 58.9), Dot(65.0, None, 65.6), Dot(paper=None)],
}


def test_ours_and_the_papers_stand_at_their_values_and_a_row_without_ours_says_so() -> None:
    figure = table_plot(ROWS, PANELS, title="cuhk03")
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ROWS
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row on top
    points = {
        (line.get_marker(), *line.get_xdata(), *line.get_ydata()) for line in left.lines if len(line.get_xdata()) == 1
    }
    assert {("o", 79.0, 0), ("o", 84.1, 1), ("D", 79.7, 0), ("D", 84.4, 1), ("D", 81.3, 2)} <= points
    bar = left.containers[0].lines[2][0].get_segments()[0]
    assert bar.tolist() == [[78.5, 0.0], [79.5, 0.0]]
    assert [(text.get_text(), text.xy[1]) for text in right.texts] == [("not run", 2)]
    assert [text.get_text() for text in figure.legends[0].get_texts()][1] == "paper"


def test_without_the_papers_numbers_the_legend_has_no_paper() -> None:
    figure = table_plot(ROWS, {"mAP": [Dot(1.0), Dot(2.0), Dot()]})
    assert len(figure.legends[0].get_texts()) == 1
    figure.canvas.draw()


def test_what_was_run_and_not_measured_is_called_that() -> None:
    figure = table_plot(["one", "two"], {"mAP": [Dot(1.0), Dot(absent="not measured")]})
    assert [text.get_text() for text in figure.axes[0].texts] == ["not measured"]


def test_a_panel_with_nothing_in_it_is_drawn() -> None:
    table_plot(["one"], {"mAP": [Dot()]}).canvas.draw()
