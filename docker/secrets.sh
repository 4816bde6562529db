#!/bin/sh
# Writes docker/.env: a new secret for every account and key in compose.yaml.
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "docker/.env exists; the stores know its passwords, so it stays" >&2
    exit 1
fi
umask 077
for name in $(grep -o '\${[A-Z_]*:?' compose.yaml | tr -d '${:?' | sort -u); do
    echo "$name=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
done > .env
