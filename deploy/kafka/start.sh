#!/usr/bin/env bash
# Starts one Apache Kafka node (KRaft, plaintext, loopback) for development and tests, and prints
# its bootstrap address on the last line.
#
#   start.sh [--port 9092] [--controller-port PORT+1] [--dir data] [--heap 768m]
#
# The folder keeps the log, the broker's own log and its process id: start.sh on the same folder
# goes on where stop.sh left it. It refuses a port that is taken.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=9092 controller="" dir="$here/data" heap=768m
while [ $# -gt 0 ]; do
  case "$1" in
    --port) port=$2 ;;
    --controller-port) controller=$2 ;;
    --dir) dir=$2 ;;
    --heap) heap=$2 ;;
    *) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
  shift 2
done
controller=${controller:-$((port + 1))}

say() { echo "kafka: $*" >&2; }
fail() { say "$@"; exit 1; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

command -v java >/dev/null || fail "java is not there; Apache Kafka needs Java 17 or newer"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
pid_file="$dir/broker.pid"
if [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; then
  fail "a broker with process id $(cat "$pid_file") runs in $dir already; stop.sh --dir $dir stops it"
fi
for taken in "$port" "$controller"; do
  if listens "$taken"; then fail "port $taken is taken; choose others with --port and --controller-port"; fi
done

if ! ls "$here"/libs/kafka_2.13-*.jar >/dev/null 2>&1; then
  command -v mvn >/dev/null || fail "mvn is not there; it brings Apache Kafka into $here/libs"
  say "resolving Apache Kafka into $here/libs"
  # Into a folder of its own first, so that two starts at once, or one cut short, leave no half.
  fetched=$(mktemp -d "$here/libs.XXXXXX")
  trap 'rm -rf "$fetched"' EXIT
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$fetched" >&2
  rm -rf "$here/libs"
  mv -T "$fetched" "$here/libs"
  chmod 755 "$here/libs"
  trap - EXIT
fi

config="$dir/server.properties"
cat >"$config" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/log
auto.create.topics.enable=false
num.partitions=4
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
PROPERTIES

run=(java "-Xmx$heap" -cp "$here/libs/*")
if [ ! -f "$dir/log/meta.properties" ]; then
  id=$("${run[@]}" kafka.tools.StorageTool random-uuid 2>/dev/null | tail -1)
  "${run[@]}" kafka.tools.StorageTool format -t "$id" -c "$config" --standalone >"$dir/format.log" 2>&1 ||
    fail "formatting failed: $(tail -3 "$dir/format.log")"
fi

# A group of its own, so that a signal meant for the caller does not reach it.
setsid nohup java "-Xmx$heap" -XX:+UseG1GC -XX:MaxGCPauseMillis=20 "-Dlog4j2.configurationFile=$here/log4j2.properties" \
  -cp "$here/libs/*" kafka.Kafka "$config" >"$dir/broker.log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$pid_file"
for _ in $(seq 300); do
  kill -0 "$pid" 2>/dev/null || { rm -f "$pid_file"; fail "the broker ended: $(tail -5 "$dir/broker.log")"; }
  if listens "$port"; then
    # That it is this broker which listens: it still runs a moment later, the port having been free.
    sleep 0.3
    kill -0 "$pid" 2>/dev/null || { rm -f "$pid_file"; fail "the broker ended: $(tail -5 "$dir/broker.log")"; }
    say "process $pid listens, data and log in $dir"
    echo "127.0.0.1:$port"
    exit 0
  fi
  sleep 0.2
done
kill "$pid" 2>/dev/null || true
rm -f "$pid_file"
fail "the broker did not listen on port $port within 60 s: $(tail -5 "$dir/broker.log")"
