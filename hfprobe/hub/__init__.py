"""The Hugging Face Hub: fetching with checks, pushing in one commit, and errors of one line that never hold a token.

- :mod:`hfprobe.hub.safety`: what is refused before a file of somebody else is opened.
- :mod:`hfprobe.hub.messages`: what an error of the Hub's client means, in one sentence.
- :mod:`hfprobe.hub.client`: the client with time-outs, and what is tried again.
- :mod:`hfprobe.hub.download`: files of a repository, checked against what the Hub says of them.
- :mod:`hfprobe.hub.place`: a folder or a repository under one interface.
- :mod:`hfprobe.hub.upload`: files to a repository, all in one commit.

``huggingface_hub`` is imported when it is needed: folders are read without it.
"""
