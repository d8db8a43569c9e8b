#!/usr/bin/env bash
# Stops the brokers that start.sh started on the same folder; the data stays.
#
#   stop.sh [--dir data] [--wipe]
#
# --wipe deletes the folder afterwards.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir="$here/data" wipe=no
while [ $# -gt 0 ]; do
  case "$1" in
    --dir) dir=$2; shift 2 ;;
    --wipe) wipe=yes; shift ;;
    *) sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
done

pids=() files=()
for pid_file in "$dir/broker.pid" "$dir"/[0-9]*/broker.pid; do
  [ -f "$pid_file" ] || continue
  files+=("$pid_file")
  pid=$(cat "$pid_file")
  own=$(cd "$(dirname "$pid_file")" && pwd)
  # Only a broker started on this folder: process ids are used again.
  if grep -qaF "$own/server.properties" "/proc/$pid/cmdline" 2>/dev/null ||
    { [ ! -d /proc/self ] && kill -0 "$pid" 2>/dev/null; }; then
    # All are told before any is waited for: the last of a quorum waits for the others in vain.
    kill "$pid" && pids+=("$pid")
  fi
done
for pid in ${pids[@]+"${pids[@]}"}; do
  for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
  if kill -0 "$pid" 2>/dev/null; then kill -9 "$pid"; fi
  echo "kafka: process $pid has stopped" >&2
done
for pid_file in ${files[@]+"${files[@]}"}; do rm -f "$pid_file"; done
# Only a folder that start.sh made.
if [ "$wipe" = yes ] && { [ -f "$dir/server.properties" ] || [ -f "$dir/1/server.properties" ]; }; then rm -rf "$dir"; fi
