#!/bin/sh
# The play table for people who do not use `make install`: the two packages, and a check that it can draw.
# Without EGL (Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri) pybullet's slower TinyRenderer takes over.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
"$PYTHON" -m pip install -e . -e calvin
"$PYTHON" - <<'CHECK'
from dynaguide_calvin.render import painter

print("the play table is ready; its images are drawn by the renderer", painter("auto").name)
CHECK
