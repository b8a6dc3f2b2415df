"""A broker that can be profiled: release as Cargo.toml has it, with frame pointers.

The release profile has line tables and no frame pointers, without which the kernel cannot walk the
stack of a sample. So that neither the profile nor what was built with it changes, this build has a
target directory of its own. What .cargo/config.toml or RUSTFLAGS ask for holds here as well. (C
code that the cc crate builds follows: it looks at the flags.)
"""

import os

from brokers import ROOT, WORK, run

FLAG = "-Cforce-frame-pointers=yes"
TARGET = WORK / "profile-build"
MILLRACE = TARGET / "release" / "millrace"


def build():
    """Gives the program."""
    command = ["cargo", "build", "--release", "--locked", "--bin", "millrace"]
    environment = os.environ | {"CARGO_TARGET_DIR": str(TARGET)}
    given = environment.get("RUSTFLAGS")
    if given:
        environment["RUSTFLAGS"] = f"{given} {FLAG}"
    else:
        # Cargo joins this list with those of its files, where RUSTFLAGS would replace them.
        command += ["--config", f'build.rustflags=["{FLAG}"]']
    run(command, cwd=ROOT, env=environment)
    return MILLRACE
