"""Where examples come from: random access to what is still encoded, a file for each kind of place.

`opening` chooses by `config.data.name`. What they have in common are `source` and, with classes, `labelled`.
"""
