# Sourced by run.sh after parse_options.sh: what a stage needs, what is done already, and how long it took.

# need FILE STAGE: stops with one line if an earlier stage has not made FILE (a file with something in it)
need() {
  [ -s "$1" ] || { echo "$0: $1 is missing: run stage $2 first (--stage $2)" >&2; exit 1; }
}

# fresh OUTPUT INPUT...: whether OUTPUT is there and no INPUT is newer; says so, because its step is then left out
fresh() {
  local output=$1 input; shift
  [ -s "$output" ] || return 1
  for input; do [ ! "$input" -nt "$output" ] || return 1; done
  echo "$output is there already; remove it to make it anew"
}

# took STAGE: prints how long the stage took, and keeps it in $exp/times.txt
step_begun=$SECONDS
took() {
  mkdir -p "$exp"
  echo "Stage $1 took $((SECONDS - step_begun)) s (cores: $(nproc), GPUs: ${ngpu:-0})" | tee -a "$exp/times.txt"
  step_begun=$SECONDS
}
