# shellcheck shell=bash
# What the jobs of this folder have in common; read by each of them. Values of the environment win:
#   encoders="blstm-robust facebook/wav2vec2-base" exp=/scratch/me/exp ./submit.sh
encoders=${encoders:-blstm-robust blstm-baseline}
train_set=${train_set:-librispeech:clean/train.100}
test_set=${test_set:-librispeech:clean/test}
noise=${noise:-hub:corypaik/musan}
exp=${exp:-exp}                      # on a file system that all nodes see
device=${device:-cuda}
processes=${processes:-4}            # of a node: as many as it has GPUs
port=${port:-29500}                  # free on the first node
python=${python:-python}             # of an environment that all nodes see
train_options=${train_options:---steps 20000 --batch-size 32 --workers 4}
evaluate_options=${evaluate_options:---snr clean 20 10 0}
similarity_options=${similarity_options:---measures svcca linear_cka}
# Lists of words; bash hands no lists on from a job to the next, so their texts stay beside them.
# shellcheck disable=SC2034
{
  read -r -a encoder_list <<< "$encoders"
  read -r -a train_words <<< "$train_options"
  read -r -a evaluate_words <<< "$evaluate_options"
  read -r -a similarity_words <<< "$similarity_options"
}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}

# bank ENCODER, results ENCODER: where its probes and its tables are; a name may hold slashes
bank() { echo "$exp/banks/${1//\//--}"; }
results() { echo "$exp/evaluation/${1//\//--}"; }

# on_all_nodes WORDS...: `python WORDS`, `processes` times on every node of the job, all in one group. srun starts one
# torchrun per node; they find each other at the first node.
on_all_nodes() {
  local first
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p) # reads to the end: no SIGPIPE
  srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 "$python" -m torch.distributed.run \
    --nnodes "$SLURM_NNODES" --nproc_per_node "$processes" --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d \
    --rdzv_endpoint "$first:$port" --max_restarts 0 "$@"
}
