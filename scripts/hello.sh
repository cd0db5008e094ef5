#!/usr/bin/env bash
# /// runql
# description = "Greets somebody: the shortest script that takes a parameter and hands back an output"
# timeout = "10s"
#
# [parameters.name]
# type = "string"
# default = "world"
# minLength = 1
# maxLength = 100
# pattern = '^[^\x00-\x1f\x7f"\\]*$'
# description = "Whom to greet"
# ///
set -euo pipefail

greeting="Hello, ${PARAM_NAME:-world}!"
echo "$greeting"

# The pattern above keeps out of the name what would need escaping here.
printf '{"greeting": "%s"}\n' "$greeting" > "${RUNQL_OUTPUT:-/dev/null}"
