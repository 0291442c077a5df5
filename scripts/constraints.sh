#!/usr/bin/env bash
# Write constraints.txt: the newest versions that pyproject.toml allows, resolved in an empty environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet -e . --group test --group docs
{
  sed -n '/^#/p' constraints.txt
  "$venv/bin/python" -m pip freeze --exclude-editable
} >constraints.new
mv constraints.new constraints.txt
