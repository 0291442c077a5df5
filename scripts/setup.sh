#!/usr/bin/env bash
# Make .venv hold this checkout and what it needs: `setup.sh` for use, `setup.sh test` for tests and docs.
# A stamp inside .venv records what was installed, so a run with nothing to do takes milliseconds and
# needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=${1:-use}
venv=.venv
python=${PYTHON:-python3}
stamp=$venv/.installed-$profile
# The checkout's place is part of the key: an editable install and a venv's scripts name it.
key=$({ pwd; cat pyproject.toml constraints.txt workbench/_version.py workbench/labextension/package.json workbench/labextension/static/*.js scripts/setup.sh; } | cksum)

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

make_venv() {
  command -v "$python" >/dev/null || fail "no '$python' found; install Python 3.11 or newer."
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed and '$python' is $("$python" -V 2>&1 | cut -d' ' -f2);" \
      "name another with make PYTHON=python3.11"
  say "making $venv with $("$python" -V 2>&1)"
  "$python" -m venv --clear "$venv" ||
    fail "'$python -m venv' failed; on Debian and Ubuntu install the package python3-venv."
}

install_packages() {
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return
  local place
  place=$(cat "$venv/.place" 2>/dev/null || pwd)
  if [ "$place" != "$(pwd)" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then make_venv; fi
  pwd >"$venv/.place"
  local wanted=(-e .)
  if [ "$profile" = test ]; then wanted+=(--group test --group docs); fi
  say "installing (a few minutes the first time)"
  # --group needs pip 25.1; a newer one is not looked for, which would need the network.
  "$venv/bin/python" -c 'import pip, sys; sys.exit([int(n) for n in pip.__version__.split(".")[:2]] < [25, 1])' ||
    "$venv/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
  "$venv/bin/python" -m pip install --quiet --constraint constraints.txt "${wanted[@]}"
  printf '%s\n' "$key" >"$stamp"
  # The tests' environment holds everything that use needs.
  if [ "$profile" = test ]; then printf '%s\n' "$key" >"$venv/.installed-use"; fi
}

# What tests use beyond Python is never a failure here: its tests skip and say so.
find_chromium() {
  local name
  for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && return
  done
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing chromium for the browser tests"
    { DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; } \
      </dev/null >/dev/null && return
  fi
  say "chromium is missing: the browser tests will be skipped (as root on Debian it is installed here)"
}

install_npm_packages() {
  local folder=tests/foreign/js lock node_stamp
  lock=$folder/package-lock.json node_stamp=$folder/node_modules/.installed
  [ -f "$lock" ] || return 0
  cmp -s "$lock" "$node_stamp" && return
  if ! command -v npm >/dev/null; then
    say "npm is missing: the tests of the JavaScript client will be skipped"
  elif (cd "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts </dev/null); then
    cp "$lock" "$node_stamp"
  else
    say "npm ci failed: the tests of the JavaScript client will be skipped"
  fi
}

install_packages
if [ "$profile" = test ]; then
  find_chromium
  install_npm_packages
fi
