from aaformer_lit.cli.console import print_results


def test_brackets_and_colons_in_names_are_no_markup(tmp_path, capsys):
    run = tmp_path / "[old] :cat:"
    run.mkdir()
    (run / "[b] metrics.json").touch()
    print_results({}, run)
    assert capsys.readouterr().out.splitlines()[-2:] == [f"written to {run}:", "  [b] metrics.json"]
