#!/usr/bin/env bash
# What `make test-slurm` needs beside Python: Slurm and munge from Debian's packages, and for the test of its accounting
# slurmdbd and MariaDB. Nothing is started. Ends with 5 where this machine has no Slurm and may not install one.
set -euo pipefail
export PATH="/usr/local/sbin:/usr/sbin:/sbin:$PATH"

lacking() { # program:package ...
  for pair in "$@"; do
    command -v "${pair%%:*}" > /dev/null || echo "${pair##*:}"
  done
}
needed=$(lacking munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client cc:gcc | tr '\n' ' ')
accounting=$(lacking slurmdbd:slurmdbd mariadbd:mariadb-server-core mariadb:mariadb-client-core | tr '\n' ' ')
[ -z "$needed$accounting" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  if [ -z "$needed" ]; then
    echo "without $accounting: the test of Slurm's accounting skips"
    exit 0
  fi
  echo "the tests on Slurm need packages that are not on this machine: $needed" >&2
  echo "  what to do: apt-get install --no-install-recommends $needed(as root), then make test-slurm again" >&2
  exit 5
fi

# Debian starts a package's services unless a policy says no.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy" "$log"' EXIT
fi
install() {
  echo "installing $*"
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o Acquire::Retries=3 "$@" > "$log" 2>&1
}
apt-get update -o Acquire::Retries=3 > "$log" 2>&1 || true # an old list may do; installing says if not
# shellcheck disable=SC2086 # several packages
if [ -n "$needed" ] && ! install $needed; then
  tail -n 15 "$log" >&2
  echo "error: apt-get could not install $needed" >&2
  exit 4
fi
# shellcheck disable=SC2086
if [ -n "$accounting" ] && ! install $accounting; then
  echo "apt-get could not install $accounting: the test of Slurm's accounting skips"
fi
