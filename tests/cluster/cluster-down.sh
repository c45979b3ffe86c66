#!/bin/bash
# Ends what cluster-up.sh started: kills one process, and the kernel ends the rest.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/settings.sh"
if is_up; then
  inner=$(cat "$STATE/init.pid" 2>/dev/null)
  kill -KILL "$(cat "$STATE/up.pid")"
  for _ in $(seq 100); do [ -n "$inner" ] && [ -e "/proc/$inner" ] || break; sleep 0.1; done
fi
# Empty groups of pods are all that can be left.
for group in /sys/fs/cgroup/*/"$NAME"; do
  [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
done
rm -f "$STATE/up.pid" "$STATE/init.pid"
