#!/usr/bin/env bash
# Make one pinned environment in .envs/NAME from envs/NAME.txt; from .wheels/NAME alone where that folder exists.
# One that is there is kept while it is whole; brought up to date where the pinned file has changed; and made anew where
# its Python does not run any more or the folder was moved (a virtual environment holds its own path).
# usage: scripts/make_env.sh NAME [PYTHON]
set -euo pipefail
name=${1:?usage: scripts/make_env.sh NAME [PYTHON]}
python=${2:-python3}
pinned="envs/$name.txt"
folder=".envs/$name"
here=$(pwd -P)

if [ ! -f "$pinned" ]; then
  echo "error: there is no $pinned" >&2
  echo "  what to do: choose one of: $(cd envs && ls ./*.txt | sed 's|^\./||; s|\.txt$||' | tr '\n' ' ')" >&2
  exit 2
fi

wanted=$(cksum < "$pinned")
# Somebody else's environment behind a link is used as it is, never made anew.
real=$(readlink -f "$folder" || true)
if [ -d "$folder" ] && [ "$real" != "$here/$folder" ]; then
  if [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    exit 0
  fi
  echo "error: $folder is a link to $real, and that environment is not the one that $pinned describes" >&2
  echo "  what to do: make it whole where it lies, or remove the link" >&2
  exit 2
fi
why=""
if [ ! -d "$folder" ]; then
  why="not there yet"
elif ! "$folder/bin/python" -c '' 2>/dev/null; then
  why="its Python does not run"
  rm -rf "$folder"
elif [ "$("$folder/bin/python" -c 'import sys; print(sys.prefix)')" != "$here/$folder" ] ||
  ! grep -qsF "$here/$folder/" "$folder/bin/pip"; then
  why="made at another path"
  rm -rf "$folder"
elif [ ! -f "$folder/installed" ]; then
  why="left unfinished"
elif [ "$(cat "$folder/installed")" != "$wanted" ]; then
  why="made from another $pinned"
fi
if [ -z "$why" ]; then
  touch "$folder/installed"
  exit 0
fi

if [ ! -d "$folder" ] && ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: $folder is to be made ($why), and $python is older than Python 3.11 or does not run" >&2
  echo "  what to do: give another one: make env NAME=$name PYTHON=/path/to/python3.11" >&2
  exit 2
fi
echo "installing $pinned into $folder ($why; a few minutes)"
explain() {
  status=$?
  if [ "$status" -ne 0 ]; then
    echo "error: could not install $pinned into $folder" >&2
    echo "  what to do: see above; the same command goes on. Without internet: make wheelhouse NAME=$name on a machine" >&2
    echo "  that has it, and bring the folder .wheels/$name here" >&2
  fi
}
trap explain EXIT
rm -f "$folder/installed"
[ -d "$folder" ] || "$python" -m venv "$folder"
source_options=()
if [ -d ".wheels/$name" ]; then
  source_options=(--no-index --find-links ".wheels/$name")
fi
# A list that is complete in itself may say so.
if grep -q '^# pip: --no-deps$' "$pinned"; then
  source_options+=(--no-deps)
fi
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${source_options[@]}" --requirement "$pinned"
# The package itself goes in by a path file, so that scripts find it when they are run by hand.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$here/src" > "$site/gainwatt.pth"
echo "$wanted" > "$folder/installed"
