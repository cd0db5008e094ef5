#!/usr/bin/env bash
# Sees to the Debian packages that the tests need: `bash tests/packages.sh`. Root gets what is missing installed;
# anybody else is told what to install.
set -euo pipefail

missing=()
lacks() { command -v "$1" >/dev/null || missing+=("$2"); }
lacks cc build-essential
lacks chromium chromium
lacks git git
lacks node nodejs
lacks npm npm
lacks psql postgresql
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]} == 0)); then
    exit 0
elif ((EUID != 0)); then
    echo "tests/packages.sh: missing, and only root can install them: apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "tests/packages.sh: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
