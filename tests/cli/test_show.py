"""Tables on a terminal: aligned, without the escapes of Markdown, and still the same cells."""

from hfprobe.cli.show import plain


def test_columns_lie_under_one_another_and_cells_stay():
    markdown = "EER \\[%\\]\n\n| encoder | x |\n| :--- | ---: |\n| my\\_a | 10.25 |\n| 声\\|b | 1 |\n\nend of a\\_b\n"
    assert plain(markdown).split("\n") == [
        "EER [%]",
        "",
        "| encoder |     x |",
        "| :------ | ----: |",
        "| my_a    | 10.25 |",
        "| 声\\|b   |     1 |",
        "",
        "end of a_b",
        "",
    ]


def test_what_is_no_table_stays():
    assert plain("") == "" and plain("a | b\n|\n") == "a | b\n|\n"
    assert plain("| a | b |\n| c |") == "| a | b |\n| c |"
