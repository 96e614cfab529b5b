"""Tokens to text."""

from hfprobe.encoders.espnet.decoding import CTCText


def test_characters_merge_and_spaces_return():
    text = CTCText(("<blank>", "L", "O", "<space>", "<sos/eos>"))
    assert text.decode([0, 1, 1, 2, 0, 2, 3, 3, 1, 4, 0]) == "LOO L"
    assert text.decode([]) == "" and text.decode([0, 0]) == ""


def test_pieces_words_and_phones():
    pieces = CTCText(("<blank>", "\u2581he", "ar", "\u2581it"), token_type="bpe")
    assert pieces.decode([1, 0, 2, 2, 3]) == "hear it"
    assert CTCText(("<blank>", "aa", "b"), token_type="phn").decode([1, 1, 0, 1, 2]) == "aa aa b"


def test_another_blank_and_space():
    assert CTCText(("_", "a", "~"), blank="_", space="~").decode([1, 0, 2, 1]) == "a a"
