"""Listening tests: making them, and scoring what listeners answered.

`design` and `ratings` say which sounds are heard together, `sounds` makes or reads them, `make` puts a test and its key
together; `answers` and `text_form` read what came back, `score` counts it. The page itself is
`hfprobe.reports.listening_page`.
"""
