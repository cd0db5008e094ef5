#!/usr/bin/env bash
# /// runql
# description = "Finds the biggest folders right below a folder"
# timeout = "10m"
#
# [parameters.path]
# type = "string"
# required = true
# pattern = "^/"
# maxLength = 4096
# description = "The folder to look into, as a full path"
#
# [parameters.limit]
# type = "integer"
# default = 10
# minimum = 1
# maximum = 1000
# description = "How many folders to list"
# ///
set -euo pipefail

path=${PARAM_PATH:?name a folder in the parameter path}
limit=${PARAM_LIMIT:-10}

if [[ ! -d $path ]]; then
  echo "::error::there is no folder $path"
  exit 2
fi

# A JSON string of whatever a folder may be called; what is no UTF-8 goes, as JSON knows nothing else.
json_string() {
  local text
  text=$(printf '%s' "$1" | iconv -c -f UTF-8 -t UTF-8 || true)
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//[[:cntrl:]]/ }
  printf '"%s"' "$text"
}

sizes=$(mktemp)
trap 'rm -f "$sizes"' EXIT

echo "::progress current=0 total=2::measure"
# One file system only. du goes on after folders that it may not enter, and says so by its exit code.
if ! du --one-file-system --block-size=1K --max-depth=1 --null -- "$path" > "$sizes"; then
  echo "::warning::some folders could not be read, so their sizes are too small"
fi

echo "::progress current=1 total=2::sort"
total=0 count=0 folders=""
while IFS=$'\t' read -r -d '' kibibytes folder; do
  if [[ $folder == "$path" ]]; then
    total=$kibibytes
  elif ((count < limit)); then
    count=$((count + 1))
    printf '%12d KiB  %q\n' "$kibibytes" "$folder"
    folders+="${folders:+, }{\"path\": $(json_string "$folder"), \"kibibytes\": $kibibytes}"
  fi
done < <(sort --zero-terminated --numeric-sort --reverse "$sizes")

printf '{"path": %s, "kibibytes": %d, "folders": [%s]}\n' "$(json_string "$path")" "$total" "$folders" \
  > "${RUNQL_OUTPUT:-/dev/null}"
echo "::progress current=2 total=2::done"
