"""The soak: one broker under half of what it can take, for hours, while segments roll and go, and
topics and groups come and go; and whether anything of it grows.

- `main` is the command: it runs the load in pieces, and writes what came of it.
- `watching` looks at the process each second, and has the topics and groups come and go.
- `judging` says whether lines are flat. Pure.
- `plots` draws them.
"""
