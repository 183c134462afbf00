#!/usr/bin/env bash
# From a fresh clone to a report of what a VAE sees in MuJoCo frames, and of what is left of a policy's return when
# the camera fails: set-up, then collect -> train -> calibrate -> evaluate -> policy -> control -> report.
# Run it again: what is finished is skipped, what was interrupted goes on.
#
#     launch/quickstart.sh [OPTION...]       options go to `robovae run`
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

./launch/setup.sh judge,rl
exec .venv/bin/robovae run launch/quickstart.yaml "$@"
