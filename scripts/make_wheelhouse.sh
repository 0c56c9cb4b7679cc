#!/usr/bin/env bash
# Download the wheels of one pinned environment to .wheels/NAME, from which make_env.sh then installs without internet.
# Packages without a wheel are built here. A folder that is whole and made from the same list is kept as it is.
# usage: scripts/make_wheelhouse.sh NAME [PYTHON]
set -euo pipefail
name=${1:?usage: scripts/make_wheelhouse.sh NAME [PYTHON]}
python=${2:-python3}
pinned="envs/$name.txt"
folder=".wheels/$name"
if [ ! -f "$pinned" ]; then
  echo "error: there is no $pinned" >&2
  echo "  what to do: choose one of: $(cd envs && ls ./*.txt | sed 's|^\./||; s|\.txt$||' | tr '\n' ' ')" >&2
  exit 2
fi
wanted="$(cksum < "$pinned") $("$python" -c 'import platform, sys; print(*sys.version_info[:2], platform.machine())')"
if [ "$(cat "$folder/complete" 2> /dev/null)" = "$wanted" ]; then
  echo "$folder: whole"
  exit 0
fi
options=()
if grep -q '^# pip: --no-deps$' "$pinned"; then
  options+=(--no-deps)
fi
echo "downloading the wheels of $pinned into $folder"
# Beside it, and renamed at the end: make_env.sh installs from nothing else as soon as the folder is there.
part="$folder.part"
mkdir -p "$part"
if ! "$python" -m pip wheel --quiet --disable-pip-version-check "${options[@]}" --requirement "$pinned" --wheel-dir "$part"; then
  echo "error: could not bring the wheels of $pinned" >&2
  echo "  what to do: see above; the same command goes on" >&2
  exit 4
fi
echo "$wanted" > "$part/complete"
rm -rf "$folder"
mv "$part" "$folder"
echo "$folder: $(find "$folder" -name '*.whl' | wc -l) wheels, $(du -sm "$folder" | cut -f1) MB"
