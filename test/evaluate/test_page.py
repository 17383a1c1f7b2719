from espnet_mtkd.evaluate import page, plots


def test_markdown_of_our_own_stages():
    text = "# Audit\n\nTwo\nlines, `a<b` and **bold**.\n\n| fold | n |\n| --- | ---: |\n| 1 | 2 |\n"
    text += "\n- one\n- two\n"
    html = page.from_markdown(text)
    assert "<h3>Audit</h3>" in html
    assert "<p>Two lines, <code>a&lt;b</code> and <strong>bold</strong>.</p>" in html
    assert '<th scope="col">n</th>' in html
    assert "<tr><td>1</td><td>2</td></tr>" in html
    assert "<ul><li>one</li><li>two</li></ul>" in html


def test_text_is_escaped_everywhere():
    evil = "<script>"
    pieces = [
        page.document(evil, []),
        page.definition_list([(evil, evil)]),
        page.table([evil], [[evil, evil]], caption=evil),
        page.heat_map(evil, evil, [evil], [(evil, [0.5], [evil])]),
        page.figure(evil, "", caption=evil),
        page.card(evil, ""),
        page.details(evil, page.code(evil)),
        page.legend([(evil, "red", "")]),
        page.from_markdown(f"# {evil}\n\n{evil}\n\n- {evil}\n\n| {evil} |\n| --- |\n| {evil} |"),
        plots.bars("x", evil, [(evil, 0.5, (0.4, 0.6), plots.PLAIN)], 0.25),
    ]
    for piece in pieces:
        assert evil not in piece
        assert "&lt;script&gt;" in piece


def test_heat_map_shows_missing_rows_as_such():
    html = page.heat_map("t", "", ["a", "b"], [("x", [None, 0.5], ["", ""])])
    assert "–</td>" in html
    assert 'style="--v:0.50" title="">50</td>' in html
