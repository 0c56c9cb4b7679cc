#!/usr/bin/env bash
# Make one pinned environment in .envs/NAME from envs/NAME.txt; from .wheels/NAME alone where that folder exists.
# usage: scripts/make_env.sh NAME [PYTHON]
set -euo pipefail
name=${1:?usage: scripts/make_env.sh NAME [PYTHON]}
python=${2:-python3}
pinned="envs/$name.txt"
folder=".envs/$name"

if [ ! -f "$pinned" ]; then
  echo "error: there is no $pinned" >&2
  echo "  what to do: choose one of: $(cd envs && ls ./*.txt | sed 's|^\./||; s|\.txt$||' | tr '\n' ' ')" >&2
  exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "error: $python is older than Python 3.11" >&2
  echo "  what to do: give another one: make env NAME=$name PYTHON=/path/to/python3.11" >&2
  exit 2
fi
wanted=$(cat "$pinned" pyproject.toml | cksum)
if [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ]; then
  touch "$folder/installed"
  exit 0
fi
echo "installing $pinned into $folder (once; a few minutes)"
rm -f "$folder/installed"
"$python" -m venv "$folder"
source_options=()
if [ -d ".wheels/$name" ]; then
  source_options=(--no-index --find-links ".wheels/$name")
fi
"$folder/bin/python" -m pip install --quiet "${source_options[@]}" --requirement "$pinned"
# The package itself goes in by a path file, so that scripts find it when they are run by hand.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$PWD/src" > "$site/gainwatt.pth"
echo "$wanted" > "$folder/installed"
