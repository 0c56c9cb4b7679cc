#!/usr/bin/env bash
# What `make test-slurm` needs beside Python: Slurm and munge from Debian's packages. Nothing is started.
set -euo pipefail
packages=()
for pair in munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client cc:gcc; do
  PATH="/usr/local/sbin:/usr/sbin:/sbin:$PATH" command -v "${pair%%:*}" > /dev/null || packages+=("${pair##*:}")
done
[ ${#packages[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo "error: the tests on Slurm need packages that are not on this machine: ${packages[*]}" >&2
  echo "  what to do: apt-get install --no-install-recommends ${packages[*]} (as root), then make test-slurm again" >&2
  exit 4
fi
echo "installing ${packages[*]}"
# Debian starts a package's services unless a policy says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } > "$log" 2>&1; then
  tail -n 15 "$log" >&2
  echo "error: apt-get could not install ${packages[*]} (whole output: $log)" >&2
  exit 4
fi
rm -f "$log"
