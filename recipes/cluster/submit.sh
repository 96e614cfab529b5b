#!/usr/bin/env bash
# Hands in all jobs: training, then evaluation of what is trained, then the page; similarity beside them.
#   ./submit.sh                          as settings.sh says
#   ./submit.sh --account me --partition gpu      further options go to every sbatch
set -euo pipefail
cd "$(dirname "$0")"
. ./settings.sh

last=$((${#encoder_list[@]} - 1))
# sbatch hands its environment on.
export encoders train_set test_set noise exp device processes port python train_options evaluate_options
export similarity_options
trained=$(sbatch --parsable "$@" --array="0-$last" train.sbatch)
# aftercorr: each task waits for the one with its number. --parsable may add the cluster's name after a semicolon.
tables=$(sbatch --parsable "$@" --array="0-$last" --dependency="aftercorr:${trained%%;*}" evaluate.sbatch)
sbatch "$@" --dependency="afterok:${tables%%;*}" report.sbatch
[ "$last" -lt 1 ] || sbatch "$@" similarity.sbatch
