#!/usr/bin/env bash
# Starts Apache Kafka (KRaft, plaintext, loopback) for development and tests, and prints its
# bootstrap addresses on the last line.
#
#   start.sh [--port 9092] [--controller-port PORT+1] [--dir data] [--heap 768m]
#            [--brokers 1] [--via NAME:PORT:ADVERTISED]... [--again N]
#
# With --brokers N, broker I listens on PORT + 2(I-1), its controller on the port after that, its
# files lie in DIR/I; records have three copies as soon as there are three brokers, and two must have
# them. --via gives every broker one more listener: broker I listens on PORT + I-1 and tells clients
# that come that way to connect to ADVERTISED + I-1, where a proxy may stand. --again N starts broker
# N of DIR as it was configured, and no other.
#
# The folder keeps the log, the broker's own log and its process id: start.sh on the same folder
# goes on where stop.sh left it. It refuses a port that is taken.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=9092 controller="" dir="$here/data" heap=768m brokers=1 again="" via=()
while [ $# -gt 0 ]; do
  case "$1" in
    --port) port=$2 ;;
    --controller-port) controller=$2 ;;
    --dir) dir=$2 ;;
    --heap) heap=$2 ;;
    --brokers) brokers=$2 ;;
    --via) via+=("$2") ;;
    --again) again=$2 ;;
    *) sed -n '2,16p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
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

# One broker alone has no folder of its own within the folder.
folder_of() { if [ "$brokers" = 1 ]; then echo "$dir"; else echo "$dir/$1"; fi; }
port_of() { echo $((port + 2 * ($1 - 1))); }
controller_of() { echo $((controller + 2 * ($1 - 1))); }

resolve() {
  if ls "$here"/libs/kafka_2.13-*.jar >/dev/null 2>&1; then return; fi
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
}

# The file of settings of broker $1.
configure() {
  local node=$1 own copies=1 insync=1 quorum extra
  own=$(folder_of "$node")
  mkdir -p "$own"
  local listeners="PLAINTEXT://127.0.0.1:$(port_of "$node"),CONTROLLER://127.0.0.1:$(controller_of "$node")"
  local advertised=$listeners protocols="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
  for extra in ${via[@]+"${via[@]}"}; do
    local name at told
    IFS=: read -r name at told <<<"$extra"
    listeners+=",$name://127.0.0.1:$((at + node - 1))"
    advertised+=",$name://127.0.0.1:$((told + node - 1))"
    protocols+=",$name:PLAINTEXT"
  done
  if [ "$brokers" -ge 3 ]; then copies=3 insync=2; fi
  if [ "$brokers" = 1 ]; then
    quorum="controller.quorum.bootstrap.servers=127.0.0.1:$controller"
  else
    quorum="controller.quorum.voters="
    for ((other = 1; other <= brokers; other++)); do
      quorum+="$other@127.0.0.1:$(controller_of "$other")"
      if [ "$other" -lt "$brokers" ]; then quorum+=","; fi
    done
    # Several brokers share a machine, and one that is killed must be missed soon. Leaders move when
    # somebody moves them.
    quorum+=$'\nnum.network.threads=1\nnum.io.threads=4\nbroker.session.timeout.ms=6000'
    quorum+=$'\nauto.leader.rebalance.enable=false'
  fi
  cat >"$own/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$node
$quorum
listeners=$listeners
advertised.listeners=$advertised
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=$protocols
log.dirs=$own/log
auto.create.topics.enable=false
num.partitions=4
default.replication.factor=$copies
min.insync.replicas=$insync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$insync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$insync
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
PROPERTIES
}

# Formats the log of broker $1, where it is new, for the cluster $2.
format() {
  local own standalone=()
  own=$(folder_of "$1")
  if [ -f "$own/log/meta.properties" ]; then return; fi
  if [ "$brokers" = 1 ]; then standalone=(--standalone); fi
  java "-Xmx$heap" -cp "$here/libs/*" kafka.tools.StorageTool format -t "$2" -c "$own/server.properties" \
    ${standalone[@]+"${standalone[@]}"} >"$own/format.log" 2>&1 ||
    fail "formatting failed: $(tail -3 "$own/format.log")"
}

# Starts the broker whose files lie in $1. A group of its own, so that a signal meant for the caller
# does not reach it. The heap is whole from the start, and no marking begins before it fills: otherwise a loaded
# broker of this size pauses several times a second for one or the other.
launch() {
  setsid nohup java "-Xms$heap" "-Xmx$heap" -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
    -XX:InitiatingHeapOccupancyPercent=80 \
    "-Dlog4j2.configurationFile=$here/log4j2.properties" \
    -cp "$here/libs/*" kafka.Kafka "$1/server.properties" >>"$1/broker.log" 2>&1 </dev/null &
  echo $! >"$1/broker.pid"
}

# Waits until the broker in $1 listens on port $2.
await() {
  local pid
  pid=$(cat "$1/broker.pid")
  for _ in $(seq 600); do
    kill -0 "$pid" 2>/dev/null || { rm -f "$1/broker.pid"; fail "the broker ended: $(tail -5 "$1/broker.log")"; }
    if listens "$2"; then
      # That it is this broker which listens: it still runs a moment later, the port having been free.
      sleep 0.3
      kill -0 "$pid" 2>/dev/null || { rm -f "$1/broker.pid"; fail "the broker ended: $(tail -5 "$1/broker.log")"; }
      say "process $pid listens, data and log in $1"
      return
    fi
    sleep 0.2
  done
  kill "$pid" 2>/dev/null || true
  rm -f "$1/broker.pid"
  fail "the broker did not listen on port $2 within 120 s: $(tail -5 "$1/broker.log")"
}

refuse_running() {
  if [ -f "$1/broker.pid" ] && kill -0 "$(cat "$1/broker.pid")" 2>/dev/null; then
    fail "a broker with process id $(cat "$1/broker.pid") runs in $1 already; stop.sh --dir $dir stops it"
  fi
}

if [ -n "$again" ]; then
  own="$dir/$again"
  [ -f "$own/server.properties" ] || fail "there is no broker $again in $dir"
  refuse_running "$own"
  port=$(sed -n 's|^listeners=PLAINTEXT://127.0.0.1:\([0-9]*\),.*|\1|p' "$own/server.properties")
  launch "$own"
  await "$own" "$port"
  echo "127.0.0.1:$port"
  exit 0
fi

for ((node = 1; node <= brokers; node++)); do
  refuse_running "$(folder_of "$node")"
  for taken in "$(port_of "$node")" "$(controller_of "$node")"; do
    if listens "$taken"; then fail "port $taken is taken; choose others with --port and --controller-port"; fi
  done
done
resolve
for ((node = 1; node <= brokers; node++)); do configure "$node"; done
id=""
if [ ! -f "$(folder_of 1)/log/meta.properties" ]; then
  id=$(java "-Xmx$heap" -cp "$here/libs/*" kafka.tools.StorageTool random-uuid 2>/dev/null | tail -1)
fi
formats=()
for ((node = 1; node <= brokers; node++)); do format "$node" "$id" & formats+=($!); done
for format in "${formats[@]}"; do wait "$format"; done
bootstrap=""
for ((node = 1; node <= brokers; node++)); do
  own=$(folder_of "$node")
  : >"$own/broker.log"
  launch "$own"
  bootstrap+="${bootstrap:+,}127.0.0.1:$(port_of "$node")"
done
for ((node = 1; node <= brokers; node++)); do await "$(folder_of "$node")" "$(port_of "$node")"; done
echo "$bootstrap"
