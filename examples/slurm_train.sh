#!/bin/bash
# Train on the GPUs of several machines: sbatch slurm_train.sh train.toml model.safetensors
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=INT@600

# One process per GPU. Ten minutes before the time is up, SLURM sends them what Ctrl-C would: they
# end the epoch and save. Submitted again, the job goes on from there.
srun --kill-on-bad-exit=1 tracksets train "$1" -o "$2" --distributed --resume
